
pub mod activate;
pub mod snapshot_handle;
pub mod xds;
