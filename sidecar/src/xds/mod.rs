//! The client of the control plane: xDS v3 over ADS.

mod client;
mod delta;
mod inbox;
#[cfg(test)]
mod sample;
mod saving;
mod settings;
mod sotw;
mod transport;

pub use client::{XdsClient, spawn};
pub use settings::{XdsProtocol, XdsSettings, XdsStatus};
