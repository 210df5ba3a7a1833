//! The admin endpoint: for people and probes on this machine only.

mod csds;
mod dump;
mod metrics;
mod server;
mod state;

pub use server::{AdminError, listen, serve};
pub use state::Admin;
