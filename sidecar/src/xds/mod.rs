//! The client of the control plane: xDS v3 over ADS.

mod client;

pub use client::{XdsClient, XdsProtocol, XdsSettings, XdsStatus, spawn};
