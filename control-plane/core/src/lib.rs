//! Pure core of the control plane: parse, check, compile, compare. No sockets, no tasks, no clock.

pub mod backup;
pub mod compile;
pub mod config;
mod cost;
pub mod diff;
pub mod fault_details;
pub mod snapshot;
pub mod xds;
