//! Connections to upstreams: they belong to stable names, not to snapshots, so that a change of
//! configuration closes none that is still wanted.

mod connect;
mod http1;
mod http2;
mod pool;
mod registry;
mod warm;

pub use connect::{ConnectError, OpenConnection};
pub use http1::{Home, Http1Body, Http1Connection, Http1Failure};
pub use http2::{Http2Body, Http2Connection, Http2Failure};
pub use pool::EndpointPool;
pub use registry::{SnapshotView, UpstreamCluster, Upstreams};
pub use warm::ConnectWarm;
