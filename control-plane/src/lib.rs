//! Segue's control plane: store, admin API, xDS server.

pub mod access;
pub mod admin;
pub mod assembly;
pub mod declared;
pub mod discovery;
pub mod fleet;
pub mod http;
pub mod identity;
pub mod leader;
pub mod metrics;
pub mod publish;
pub mod replicas;
pub mod reports;
pub mod settings;
pub mod store;
pub mod xds;
