//! The xDS server: snapshots to streams, ADS in both variants.

mod server;
mod snapshot_cache;
mod status;
mod stream;

pub use server::{XdsServices, xds_services};
pub use snapshot_cache::SnapshotCache;
