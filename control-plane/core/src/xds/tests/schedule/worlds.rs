//! Snapshots of a small mesh, for each kind of client.

use std::sync::Arc;

use proptest::prelude::*;
use segue_shared::xds_names::type_urls::{
    CLUSTER, ENDPOINT, LISTENER, ROUTE, SNAPSHOT_MARK, VIRTUAL_HOST,
};

use super::super::world::snapshot;
use super::client::Kind;
use crate::snapshot::XdsSnapshot;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Versions of clusters and of endpoints (0: no such cluster), and what routes name of them.
#[derive(Clone, Debug)]
pub struct World {
    clusters: Vec<(u8, u8, bool)>,
    listener: u8,
    /// Whether clients refuse some of its clusters.
    bad_clusters: bool,
    /// Whether clients refuse its routes.
    bad_routes: bool,
}

impl World {
    /// What such a client gets. The version of a route, or of a virtual host, is what it names.
    pub fn snapshot(&self, kind: Kind, revision: u64) -> Arc<XdsSnapshot> {
        let mut versions = Vec::new();
        let mut named = Vec::new();
        for (name, &(cluster, endpoints, routed)) in NAMES.iter().zip(&self.clusters) {
            if cluster == 0 {
                continue;
            }
            let bad = self.bad_clusters && cluster == 3;
            let version = if bad { "bad".to_owned() } else { cluster.to_string() };
            versions.push((CLUSTER, *name, version));
            versions.push((ENDPOINT, *name, endpoints.to_string()));
            if routed {
                named.push(*name);
            }
        }
        let prefix = if self.bad_routes { "bad+" } else { "" };
        versions.push((LISTENER, "l", self.listener.to_string()));
        if kind == Kind::Sidecar {
            versions.push((ROUTE, "r", String::from("0")));
            for (host, named) in ["h1", "h2"].into_iter().zip(named.chunks(2)) {
                versions.push((VIRTUAL_HOST, host, format!("{prefix}{}", named.join("+"))));
            }
        } else {
            versions.push((ROUTE, "r", format!("{prefix}{}", named.join("+"))));
        }
        if kind != Kind::Grpc {
            versions.push((SNAPSHOT_MARK, "snapshot", revision.to_string()));
        }
        let all: Vec<_> =
            versions.iter().map(|(url, name, version)| (*url, *name, version.as_str())).collect();
        snapshot(revision, &all)
    }
}

/// What clients may find to refuse.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bad {
    pub clusters: bool,
    pub routes: bool,
}

pub fn world(bad: Bad) -> impl Strategy<Value = World> {
    let cluster = (0u8..4, 0u8..3, any::<bool>());
    (prop::collection::vec(cluster, NAMES.len()), 0u8..2, any::<bool>()).prop_map(
        move |(clusters, listener, bad_routes)| World {
            clusters,
            listener,
            bad_clusters: bad.clusters,
            bad_routes: bad.routes && bad_routes,
        },
    )
}
