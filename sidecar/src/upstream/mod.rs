//! Connections to upstreams: they belong to stable names, not to snapshots, so that a change of
//! configuration closes none that is still wanted.

mod connect;
mod http1;
mod http2;
mod instance;
mod line;
mod originals;
mod pool;
mod race;
mod registry;

pub use connect::{ConnectError, OpenConnection, connect, open};
pub use http1::{Home, Http1Body, Http1Connection, Http1Failure};
pub use http2::{Http2Body, Http2Connection, Http2Failure};
pub use instance::{Instance, Instances, Running};
pub use line::{Line, Place};
pub use originals::{ORIGINAL_CLUSTER, ORIGINAL_CONNECT_TIMEOUT, Original, Originals};
pub use pool::EndpointPool;
pub use registry::{Living, SnapshotView, UpstreamCluster, Upstreams};
