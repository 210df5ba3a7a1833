//! The immutable tables that a request reads. No decisions here: `routing` and `balance` decide.

mod cluster;
mod route;
mod traffic;

use std::sync::Arc;

use segue_shared::ids::Revision;

pub use cluster::{Cluster, ClusterIndex, ClusterTable, Endpoint, HttpVersion, PoolLimits};
pub use route::{
    DirectResponse, Domain, Forward, HeaderEdit, HeaderEdits, HeaderMatcher, InvalidDomain, Mirror,
    PathMatcher, PathRewrite, QueryMatcher, Redirect, Retry, Route, RouteAction, RouteMatcher,
    RouteTable, Split, SplitKey, ValueMatcher, VirtualHost,
};
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
    /// Clusters that routes name by index.
    pub clusters: ClusterTable,
}
