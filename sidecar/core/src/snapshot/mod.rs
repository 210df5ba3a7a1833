//! The immutable tables that a request reads. No decisions here: `routing` and `balance` decide.

mod cluster;
mod fault;
mod locality;
mod route;
mod route_index;
mod tcp;
mod tls;
mod traffic;

use std::sync::Arc;

use segue_shared::ids::Revision;

use crate::canonical::EscapedSlashes;

pub use cluster::{Cluster, ClusterIndex, ClusterTable, Endpoint, HttpVersion, PoolLimits};
pub use fault::InjectedFault;
pub use locality::{Callers, Locality, LocalityRule, ZoneAware};
pub use route::{
    DirectResponse, Domain, Forward, HeaderEdit, HeaderEdits, HeaderMatcher, InvalidDomain, Mirror,
    PathMatcher, PathRewrite, QueryMatcher, Redirect, Retry, Route, RouteAction, RouteMatcher,
    RouteTable, Split, SplitKey, ValueMatcher, VirtualHost,
};
pub use tcp::{TcpRoute, TcpTable};
pub use tls::{InboundMtls, UpstreamTls};
pub use traffic::{
    Algorithm, Hashing, KeyTable, Outlier, Probe, ProbeKind, RingPoint, SuccessRate, TableKind,
    Traffic,
};

/// All that requests of one moment are decided by. Swapped as a whole, loaded once a request.
#[derive(Debug, Default)]
pub struct CompiledSnapshot {
    /// Counts the swaps of this process; never falls.
    pub generation: u64,
    /// The revision that the control plane marked the snapshot with. `None` under control planes
    /// that send no marks, and before the first snapshot.
    pub revision: Option<Revision>,
    /// Routes of requests that leave the application; the same `Arc` as long as they do not change.
    pub routes: Arc<RouteTable>,
    /// Routes of connections that leave the application and speak no HTTP.
    pub tcp: Arc<TcpTable>,
    /// Clusters that routes name by index.
    pub clusters: ClusterTable,
    /// What is done with escaped slashes in paths of requests that leave the application; `None`:
    /// as the sidecar's own settings say.
    pub escaped_slashes: Option<EscapedSlashes>,
    /// What callers of the application have to show; `None`: as the sidecar's own settings say.
    pub inbound_mtls: Option<InboundMtls>,
}
