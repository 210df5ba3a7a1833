//! The xDS server: snapshots to streams, ADS in both variants, load reports.

mod chunks;
mod frames;
mod issuing;
mod listen;
mod loads;
mod open;
mod pace;
mod reports;
mod secrets;
mod server;
mod service;
mod settings;
mod snapshot_cache;
mod status;
mod stream;
mod threads;
mod time_to_live;
mod unread;
mod uploads;

pub use listen::listen;
pub use server::{XdsServices, xds_services};
pub use service::AdsService;
pub use settings::Settings;
pub use snapshot_cache::{SnapshotCache, Snapshots, Withheld};
pub use threads::{StreamThreads, Streams};
