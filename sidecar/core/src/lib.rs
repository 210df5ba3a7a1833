//! Pure core of the sidecar: xDS resources compiled to tables, and the decisions on them. No
//! sockets, no tasks, no clock, no hidden randomness: time and draws are arguments.

pub mod balance;
pub mod canonical;
pub mod capture;
pub mod compile;
pub mod detect;
pub mod dns;
pub mod flood;
pub mod grpc_timeout;
pub mod health;
pub mod http1;
pub mod http2;
pub mod outlier;
pub mod overload;
pub mod reject;
pub mod retry_budget;
pub mod routing;
pub mod snapshot;
