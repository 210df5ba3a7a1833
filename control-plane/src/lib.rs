//! Segue's control plane: store, admin API, xDS server.

pub mod store;
