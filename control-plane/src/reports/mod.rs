//! What sidecars tell the control plane.

pub mod intake;
