//! Pure core of the sidecar: xDS resources compiled to tables, and the decisions on them. No
//! sockets, no tasks, no clock, no hidden randomness: time and draws are arguments.

pub mod balance;
pub mod canonical;
pub mod compile;
pub mod flood;
pub mod http1;
pub mod reject;
pub mod routing;
pub mod snapshot;
