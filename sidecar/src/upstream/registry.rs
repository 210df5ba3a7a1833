//! What lives longer than a snapshot on one worker: pools and cursors under stable names.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use segue_sidecar_core::snapshot::{
    Cluster, ClusterIndex, CompiledSnapshot, Endpoint, HttpVersion,
};
use tokio::time::Instant;

use super::pool::EndpointPool;
use crate::outcome::{ClusterCounters, Counters};

/// Whether requests share a connection, which is the difference between pools of one address.
type Shared = bool;

/// All clusters that one worker has called and that some snapshot still names.
pub struct Upstreams {
    worker: usize,
    counters: Arc<Counters>,
    clusters: RefCell<HashMap<Arc<str>, Rc<UpstreamCluster>>>,
}

/// One cluster on one worker.
pub struct UpstreamCluster {
    /// Counters, shared with other workers.
    pub counters: Arc<ClusterCounters>,
    worker: usize,
    cursor: Cell<u64>,
    pools: RefCell<HashMap<(SocketAddr, Shared), Rc<EndpointPool>>>,
}

/// A snapshot with the living part of its clusters beside it, looked up once and not per request.
pub struct SnapshotView {
    /// The tables.
    pub snapshot: Arc<CompiledSnapshot>,
    living: Box<[OnceCell<Rc<UpstreamCluster>>]>,
}

impl SnapshotView {
    /// A view whose living part is found at first use.
    pub fn new(snapshot: Arc<CompiledSnapshot>) -> Self {
        let living = (0..snapshot.clusters.places()).map(|_| OnceCell::new()).collect();
        Self { snapshot, living }
    }

    /// A cluster and its living part.
    pub fn cluster(
        &self,
        index: ClusterIndex,
        upstreams: &Upstreams,
    ) -> Option<(&Cluster, &Rc<UpstreamCluster>)> {
        let cluster = self.snapshot.clusters.get(index)?;
        let living = self.living.get(index.0 as usize)?;
        Some((cluster, living.get_or_init(|| upstreams.cluster(cluster))))
    }
}

impl Upstreams {
    /// No clusters yet.
    pub fn new(worker: usize, counters: Arc<Counters>) -> Self {
        Self { worker, counters, clusters: RefCell::default() }
    }

    /// The living part of a cluster.
    pub fn cluster(&self, cluster: &Cluster) -> Rc<UpstreamCluster> {
        let mut clusters = self.clusters.borrow_mut();
        let living = clusters
            .entry(Arc::clone(&cluster.name))
            .or_insert_with(|| Rc::new(UpstreamCluster::new(cluster, self.worker, &self.counters)));
        Rc::clone(living)
    }

    /// Lets go what the snapshot does not name any more: idle connections are closed, running
    /// requests end in peace.
    pub fn reconcile(&self, snapshot: &CompiledSnapshot) {
        self.clusters.borrow_mut().retain(|name, living| {
            let cluster = snapshot.clusters.index_of(name).and_then(|i| snapshot.clusters.get(i));
            let endpoints = cluster.map_or(&[][..], |cluster| &cluster.endpoints);
            let http = cluster.map_or(HttpVersion::Http1, |cluster| cluster.http);
            living.reconcile(endpoints, http);
            cluster.is_some()
        });
    }

    /// Closes idle connections that are overdue.
    pub fn tick(&self, now: Instant, snapshot: &CompiledSnapshot) {
        for (name, living) in self.clusters.borrow().iter() {
            let index = snapshot.clusters.index_of(name);
            if let Some(cluster) = index.and_then(|index| snapshot.clusters.get(index)) {
                living.tick(now, cluster);
            }
        }
    }
}

impl UpstreamCluster {
    /// Without connections yet.
    pub fn new(cluster: &Cluster, worker: usize, counters: &Counters) -> Self {
        Self {
            counters: counters.cluster(&cluster.name, cluster.version.as_ref()),
            worker,
            // Workers begin at different endpoints, so that few requests spread as well.
            cursor: Cell::new(worker as u64),
            pools: RefCell::default(),
        }
    }

    /// A turn of the round robin.
    pub fn turn(&self) -> u64 {
        self.cursor.replace(self.cursor.get().wrapping_add(1))
    }

    /// The pool of an endpoint.
    pub fn pool(&self, address: SocketAddr, http: HttpVersion) -> Rc<EndpointPool> {
        let key = (address, shared(http));
        if let Some(pool) = self.pools.borrow().get(&key) {
            return Rc::clone(pool);
        }
        let counters = Arc::clone(&self.counters);
        let pool = Rc::new(EndpointPool::new(address, self.worker, counters));
        self.pools.borrow_mut().insert(key, Rc::clone(&pool));
        pool
    }

    /// Closes idle connections that are overdue.
    pub fn tick(&self, now: Instant, cluster: &Cluster) {
        for pool in self.pools.borrow().values() {
            pool.tick(now, cluster);
        }
    }

    fn reconcile(&self, endpoints: &[Endpoint], http: HttpVersion) {
        let wanted: HashSet<(SocketAddr, Shared)> =
            endpoints.iter().map(|endpoint| (endpoint.address, shared(http))).collect();
        self.pools.borrow_mut().retain(|address, pool| {
            let keep = wanted.contains(address);
            if !keep {
                pool.retire();
            }
            keep
        });
    }
}

fn shared(http: HttpVersion) -> Shared {
    http == HttpVersion::Http2
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use segue_sidecar_core::snapshot::{ClusterTable, PoolLimits};

    use super::*;

    #[test]
    fn a_cluster_behind_an_empty_place_is_found() {
        let cluster = Arc::new(Cluster {
            name: "a".into(),
            version: None,
            http: HttpVersion::Http1,
            connect_timeout: Duration::from_secs(1),
            limits: PoolLimits::default(),
            endpoints: [].into(),
        });
        let clusters = ClusterTable::placed(vec![None, None, Some(cluster)], []);
        let index = clusters.index_of("a").unwrap();
        let snapshot = CompiledSnapshot { clusters, ..CompiledSnapshot::default() };
        let view = SnapshotView::new(Arc::new(snapshot));
        let upstreams = Upstreams::new(0, Arc::new(Counters::new(1)));
        let (found, _) = view.cluster(index, &upstreams).unwrap();
        assert_eq!(&*found.name, "a");
        assert!(view.cluster(ClusterIndex(0), &upstreams).is_none());
    }
}
