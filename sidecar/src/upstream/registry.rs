//! What lives longer than a snapshot on one worker: pools and cursors under stable names.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use segue_sidecar_core::retry_budget::Purse;
use segue_sidecar_core::snapshot::{
    Cluster, ClusterIndex, CompiledSnapshot, Endpoint, HttpVersion, Traffic, UpstreamTls,
};
use tokio::time::Instant;

use super::instance::{Instance, Instances};
use super::line::Line;
use super::pool::EndpointPool;
use crate::outcome::{ClusterCounters, Counters};
use crate::tls::Mesh;
use crate::vitals::Vitals;

/// What tells pools of one address apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Way {
    /// Whether requests share a connection.
    shared: bool,
    /// Who is expected at the other end.
    tls: Option<Arc<UpstreamTls>>,
}

impl Way {
    fn to(cluster: &Cluster) -> Self {
        Self { shared: cluster.http == HttpVersion::Http2, tls: cluster.tls.clone() }
    }
}

/// All clusters that one worker has called and that some snapshot still names.
pub struct Upstreams {
    worker: usize,
    counters: Arc<Counters>,
    vitals: Arc<Vitals>,
    mesh: Mesh,
    clusters: RefCell<HashMap<Arc<str>, Rc<UpstreamCluster>>>,
}

/// One cluster on one worker.
pub struct UpstreamCluster {
    /// Counters, shared with other workers.
    pub counters: Arc<ClusterCounters>,
    worker: usize,
    vitals: Arc<Vitals>,
    mesh: Mesh,
    cursor: Cell<u64>,
    /// Requests that wait for room.
    pub line: Rc<Line>,
    purse: Cell<Purse>,
    known: RefCell<HashMap<(SocketAddr, Way), Rc<Instance>>>,
    /// Those of the last snapshot that was asked for.
    last: RefCell<Option<Rc<Instances>>>,
}

/// What lives of a cluster of one snapshot.
pub struct Living {
    pub cluster: Rc<UpstreamCluster>,
    pub instances: Rc<Instances>,
}

/// A snapshot with the living part of its clusters beside it, looked up once and not per request.
pub struct SnapshotView {
    /// The tables.
    pub snapshot: Arc<CompiledSnapshot>,
    living: Box<[OnceCell<Living>]>,
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
    ) -> Option<(&Cluster, &Living)> {
        let cluster = self.snapshot.clusters.get(index)?;
        let living = self.living.get(index.0 as usize)?;
        Some((cluster, living.get_or_init(|| upstreams.living(cluster))))
    }
}

impl Upstreams {
    /// No clusters yet.
    pub fn new(worker: usize, counters: Arc<Counters>, vitals: Arc<Vitals>, mesh: Mesh) -> Self {
        Self { worker, counters, vitals, mesh, clusters: RefCell::default() }
    }

    /// The living part of a cluster.
    pub fn living(&self, cluster: &Cluster) -> Living {
        let mut clusters = self.clusters.borrow_mut();
        let living =
            clusters.entry(Arc::clone(&cluster.name)).or_insert_with(|| self.apart(cluster));
        Living { cluster: Rc::clone(living), instances: living.instances(cluster) }
    }

    /// The living part of a cluster that no snapshot names.
    pub fn apart(&self, cluster: &Cluster) -> Rc<UpstreamCluster> {
        let mesh = self.mesh.clone();
        Rc::new(UpstreamCluster::new(cluster, self.worker, &self.counters, &self.vitals, mesh))
    }

    /// Lets go what the snapshot does not name any more: idle connections are closed, running
    /// requests end in peace.
    pub fn reconcile(&self, snapshot: &CompiledSnapshot) {
        self.clusters.borrow_mut().retain(|name, living| {
            let cluster = snapshot.clusters.index_of(name).and_then(|i| snapshot.clusters.get(i));
            living.reconcile(cluster.map(|cluster| &**cluster));
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
    pub fn new(
        cluster: &Cluster,
        worker: usize,
        counters: &Counters,
        vitals: &Arc<Vitals>,
        mesh: Mesh,
    ) -> Self {
        let counters = counters.cluster(&cluster.name, cluster.version.as_ref());
        let purse = Purse::new(cluster.traffic.retry_budget, counters.workers());
        Self {
            counters,
            worker,
            line: Rc::default(),
            purse: Cell::new(purse),
            vitals: Arc::clone(vitals),
            mesh,
            // Workers begin at different endpoints, so that few requests spread as well.
            cursor: Cell::new(worker as u64),
            known: RefCell::default(),
            last: RefCell::default(),
        }
    }

    /// A turn of the round robin.
    pub fn turn(&self) -> u64 {
        self.cursor.replace(self.cursor.get().wrapping_add(1))
    }

    /// A request came, which pays for a part of a repetition.
    pub fn requested(&self) {
        let mut purse = self.purse.get();
        purse.requested();
        self.purse.set(purse);
    }

    /// Whether one more request may be repeated; it is paid for then.
    pub fn may_repeat(&self, traffic: &Traffic) -> bool {
        let room = traffic.max_retries;
        if room.is_some_and(|most| !self.counters.admits_retry(self.worker, most)) {
            return false;
        }
        let mut purse = self.purse.get();
        let paid = purse.pay(traffic.retry_budget);
        self.purse.set(purse);
        paid
    }

    /// The endpoints of a snapshot's cluster, those known and new ones.
    pub fn instances(&self, cluster: &Cluster) -> Rc<Instances> {
        let mut last = self.last.borrow_mut();
        if let Some(last) = last.as_ref().filter(|last| last.are_of(cluster)) {
            return Rc::clone(last);
        }
        // The first ones are all as new as each other.
        let joined = last.is_some().then(Instant::now);
        let way = Way::to(cluster);
        let all = cluster.endpoints.iter().map(|it| self.instance(it, &way, joined));
        let instances = Instances::new(cluster, all.collect(), self.vitals.cluster(cluster));
        let instances = Rc::new(instances);
        *last = Some(Rc::clone(&instances));
        instances
    }

    fn instance(&self, endpoint: &Endpoint, way: &Way, joined: Option<Instant>) -> Rc<Instance> {
        let address = endpoint.address;
        let mut known = self.known.borrow_mut();
        let instance = known.entry((address, way.clone())).or_insert_with(|| {
            let (counters, mesh) = (Arc::clone(&self.counters), self.mesh.clone());
            let pool = Rc::new(EndpointPool::new(address, self.worker, counters, mesh));
            Rc::new(Instance::new(address, pool, Rc::clone(&self.line), joined))
        });
        instance.pool.also_at(&endpoint.others);
        Rc::clone(instance)
    }

    /// What is done once a second: idle connections that are overdue are closed.
    pub fn tick(&self, now: Instant, cluster: &Cluster) {
        let mut purse = self.purse.get();
        purse.second(cluster.traffic.retry_budget);
        self.purse.set(purse);
        for instance in self.known.borrow().values() {
            instance.pool.tick(now, cluster);
        }
    }

    /// Keeps what the cluster, if it is still there, has endpoints for.
    fn reconcile(&self, cluster: Option<&Cluster>) {
        let way = cluster.map(Way::to);
        let endpoints = cluster.map_or(&[][..], |cluster| &cluster.endpoints);
        let wanted: HashSet<SocketAddr> = endpoints.iter().map(|it| it.address).collect();
        self.known.borrow_mut().retain(|(address, known), instance| {
            let keep = wanted.contains(address) && way.as_ref() == Some(known);
            if !keep {
                instance.pool.retire();
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use segue_sidecar_core::balance::Ask;
    use segue_sidecar_core::snapshot::ClusterTable;

    use super::*;

    fn upstreams() -> Upstreams {
        let (counters, vitals) = (Arc::new(Counters::new(1)), Arc::new(Vitals::new(1)));
        Upstreams::new(0, counters, vitals, Mesh::default())
    }

    fn cluster(ports: &[u16]) -> Arc<Cluster> {
        let endpoints = ports.iter().map(|&port| Endpoint::new(([127, 0, 0, 1], port).into()));
        Arc::new(Cluster::new("a".into(), endpoints.collect()))
    }

    #[tokio::test]
    async fn a_cluster_behind_an_empty_place_is_found() {
        let clusters = ClusterTable::placed(vec![None, None, Some(cluster(&[]))], []);
        let index = clusters.index_of("a").unwrap();
        let snapshot = CompiledSnapshot { clusters, ..CompiledSnapshot::default() };
        let view = SnapshotView::new(Arc::new(snapshot));
        let upstreams = upstreams();
        let (found, living) = view.cluster(index, &upstreams).unwrap();
        assert_eq!(&*found.name, "a");
        assert!(living.instances.pick(found, Ask::default()).is_none());
        assert!(view.cluster(ClusterIndex(0), &upstreams).is_none());
    }

    #[tokio::test]
    async fn an_endpoint_is_the_same_in_all_snapshots_that_name_it() {
        let upstreams = upstreams();
        let before = cluster(&[1, 2]);
        let first = upstreams.living(&before);
        assert!(Rc::ptr_eq(&first.instances, &upstreams.living(&before).instances));
        let after = cluster(&[2]);
        let second = upstreams.living(&after);
        let picked = |of: &Living, cluster: &Cluster, turn| {
            let ask = Ask { turn, ..Ask::default() };
            Rc::clone(of.instances.pick(cluster, ask).unwrap().1)
        };
        assert!(Rc::ptr_eq(&picked(&first, &before, 1), &picked(&second, &after, 0)));
        assert!(!Rc::ptr_eq(&picked(&first, &before, 0), &picked(&second, &after, 0)));
    }
}
