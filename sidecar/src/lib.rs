//! Segue's sidecar: the data plane. `assembly` puts it together; a request goes `listener` →
//! `http` → `upstream`, a change goes `xds` → `activate` → the next request.

pub mod access_log;
pub mod activate;
pub mod admin;
pub mod assembly;
pub mod body;
mod buffers;
pub mod capture;
pub mod control_plane;
pub mod deadline;
pub mod dns;
pub mod health;
pub mod http;
pub mod http1;
pub mod http2;
pub mod identity;
pub mod keepalive;
pub mod listener;
pub mod outcome;
pub mod overload;
pub mod report;
pub mod settings;
pub mod snapshot_file;
pub mod snapshot_handle;
pub mod takeover;
pub mod tcp;
pub mod tls;
pub mod upstream;
pub mod vitals;
pub mod websocket;
pub mod worker;
pub mod workers;
pub mod xds;
