//! What sidecars and other xDS clients tell the control plane.

pub mod intake;
pub mod lrs;
