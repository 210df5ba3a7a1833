//! Clusters: the endpoints of one version and how to talk to them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use segue_shared::ids::{ServiceName, VersionLabel};

use super::locality::{Callers, Locality};
use super::tls::UpstreamTls;
use super::traffic::{KeyTable, Traffic};

/// Place of a cluster in the [`ClusterTable`] of the same snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterIndex(pub u32);

impl ClusterIndex {
    /// In no table.
    pub const NONE: Self = Self(u32::MAX);
}

/// The clusters of one snapshot.
#[derive(Debug, Default)]
pub struct ClusterTable {
    /// First the places that routes lead to, then clusters that no route names.
    places: Vec<Option<Arc<Cluster>>>,
    by_name: HashMap<Arc<str>, ClusterIndex>,
    routed: usize,
}

/// One cluster. An unchanged cluster is the same `Arc` in the next snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Name in xDS: the stable id under which pools and counters outlive snapshots.
    pub name: Arc<str>,
    /// The version that the cluster stands for; `None` under foreign control planes.
    pub version: Option<(ServiceName, VersionLabel)>,
    /// What the endpoints speak.
    pub http: HttpVersion,
    /// How connections are secured; `None`: they are plain text.
    pub tls: Option<Arc<UpstreamTls>>,
    /// Time to establish a connection.
    pub connect_timeout: Duration,
    /// Caps and times of connections.
    pub limits: PoolLimits,
    /// How requests are spread.
    pub traffic: Arc<Traffic>,
    /// Endpoints that may be picked, in a stable order.
    pub endpoints: Arc<[Endpoint]>,
    /// Which of them has which keys, where keys decide.
    pub keys: KeyTable,
    /// Who else calls them and from where, where that matters.
    pub callers: Option<Arc<Callers>>,
}

impl Cluster {
    /// A cluster of HTTP/1.1 endpoints with all defaults.
    pub fn new(name: Arc<str>, endpoints: Arc<[Endpoint]>) -> Self {
        Self {
            name,
            version: None,
            http: HttpVersion::Http1,
            tls: None,
            connect_timeout: Duration::from_secs(1),
            limits: PoolLimits::default(),
            traffic: Arc::default(),
            endpoints,
            keys: KeyTable::None,
            callers: None,
        }
    }
}

/// Protocol of a cluster's endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    #[default]
    Http1,
    /// With prior knowledge.
    Http2,
}

/// Caps and times of the connections to one cluster, for the whole sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections. Default 1024.
    pub max_connections: u32,
    /// Requests that wait for a connection. Default 1024.
    pub max_pending_requests: u32,
    /// Requests at one time. Default 1024.
    pub max_requests: u32,
    /// Time after which an idle connection is closed. Default 60 s.
    pub idle_timeout: Duration,
    /// Age after which a connection takes no new requests, give or take a tenth. Default 30 min.
    pub max_age: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            idle_timeout: Duration::from_mins(1),
            max_age: Duration::from_mins(30),
        }
    }
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is known by.
    pub address: SocketAddr,
    /// Further addresses of the same instance, in the order in which they are tried where the first
    /// one does not answer at once; mostly none.
    pub others: Arc<[SocketAddr]>,
    /// Share among the endpoints of its priority, at least 1.
    pub weight: u32,
    /// The lowest goes first; the next ones take what it cannot.
    pub priority: u32,
    /// Where it is; `None` where that is not known.
    pub locality: Option<Arc<Locality>>,
    /// Share of its locality among those of its priority; 0: none was told.
    pub locality_weight: u32,
}

impl Endpoint {
    /// An instance of weight 1 that goes first.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            others: Arc::default(),
            weight: 1,
            priority: 0,
            locality: None,
            locality_weight: 0,
        }
    }
}

impl ClusterTable {
    /// A table of these clusters, all of which routes name; the first of two with one name counts.
    pub fn new(clusters: Vec<Arc<Cluster>>) -> Self {
        Self::placed(clusters.into_iter().map(Some).collect(), [])
    }

    /// A table of the clusters that routes name, each at its place, and of others. A place may be
    /// empty: no route of the same snapshot leads there.
    pub fn placed(
        mut places: Vec<Option<Arc<Cluster>>>,
        others: impl IntoIterator<Item = Arc<Cluster>>,
    ) -> Self {
        let routed = places.len();
        places.extend(others.into_iter().map(Some));
        let mut by_name = HashMap::with_capacity(places.len());
        for (i, cluster) in places.iter().enumerate() {
            if let Some(cluster) = cluster {
                by_name.entry(Arc::clone(&cluster.name)).or_insert(ClusterIndex(i as u32));
            }
        }
        Self { places, by_name, routed }
    }

    /// The cluster at an index of the same snapshot.
    pub fn get(&self, index: ClusterIndex) -> Option<&Arc<Cluster>> {
        self.places.get(index.0 as usize)?.as_ref()
    }

    /// The place of a name.
    pub fn index_of(&self, name: &str) -> Option<ClusterIndex> {
        self.by_name.get(name).copied()
    }

    /// The cluster of a name, where routes name it.
    pub fn routed_by_name(&self, name: &str) -> Option<&Arc<Cluster>> {
        let index = self.index_of(name).filter(|index| (index.0 as usize) < self.routed)?;
        self.get(index)
    }

    /// The clusters that routes name.
    pub fn routed(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.places.iter().take(self.routed).flatten()
    }

    /// All clusters in the order of their indices.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.places.iter().flatten()
    }

    /// Number of places, empty ones included: every index is below it.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// Number of clusters.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}
