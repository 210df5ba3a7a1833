//! The admin endpoint: for people and probes on this machine only.

mod dump;
mod metrics;
mod server;

pub use server::{Admin, AdminError, serve};
