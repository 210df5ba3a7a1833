//! The endpoints of a cluster as one worker knows them: their connections, what runs on them, how
//! fast they answer, and which of them may be picked.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use segue_sidecar_core::balance::{self, Ask, Ewma, Load, Pickable};
use segue_sidecar_core::snapshot::{
    Algorithm, Callers, Cluster, Endpoint, HttpVersion, Traffic, UpstreamTls,
};
use tokio::time::Instant;

use super::line::Line;
use super::pool::EndpointPool;
use crate::vitals::{ClusterVitals, EndpointVitals, Sign};

/// One endpoint. The same one in all snapshots that name its address.
pub struct Instance {
    pub address: SocketAddr,
    pub pool: Rc<EndpointPool>,
    running: Cell<u32>,
    latency: Cell<Ewma>,
    /// When it joined the others, or came back to them.
    joined: Cell<Option<Instant>>,
    /// What latencies are counted from.
    begun: Instant,
    /// Requests that wait until another one ends.
    line: Rc<Line>,
}

/// All endpoints of a cluster of one snapshot, in its order.
pub struct Instances {
    of: Arc<[Endpoint]>,
    http: HttpVersion,
    tls: Option<Arc<UpstreamTls>>,
    traffic: Arc<Traffic>,
    callers: Option<Arc<Callers>>,
    all: Box<[Rc<Instance>]>,
    /// Which of them are in another locality than the sidecar; empty where localities do not matter.
    elsewhere: Box<[bool]>,
    watched: Option<Watched>,
    pickable: RefCell<Pickable>,
    /// How many changes of health `pickable` has seen.
    seen: Cell<u64>,
}

/// Health that all workers share.
struct Watched {
    cluster: Arc<ClusterVitals>,
    endpoints: Box<[Arc<EndpointVitals>]>,
}

/// A request that runs on an endpoint, until it is dropped.
pub struct Running {
    on: Rc<Instance>,
    /// Whether its end makes room for another one.
    makes_room: bool,
}

impl Instance {
    /// An endpoint that nothing is known of. `joined` where others were there before it.
    pub fn new(
        address: SocketAddr,
        pool: Rc<EndpointPool>,
        line: Rc<Line>,
        joined: Option<Instant>,
    ) -> Self {
        Self {
            address,
            pool,
            running: Cell::new(0),
            latency: Cell::default(),
            joined: Cell::new(joined),
            begun: Instant::now(),
            line,
        }
    }

    /// Counts a request that begins to run.
    pub fn run(self: &Rc<Self>) -> Running {
        self.running.set(self.running.get() + 1);
        Running { on: Rc::clone(self), makes_room: true }
    }

    /// The time from `begun` to the head of an answer.
    pub fn answered(&self, begun: Instant) {
        let now = Instant::now();
        let since = |moment| nanos(now.saturating_duration_since(moment));
        self.latency.set(self.latency.get().fed(since(begun), since(self.begun)));
    }
}

impl Running {
    /// Ends it without news for those who wait: it found no room itself, and would wake itself.
    pub fn found_no_room(mut self) {
        self.makes_room = false;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.on.running.set(self.on.running.get().saturating_sub(1));
        if self.makes_room {
            self.on.line.moved();
        }
    }
}

impl Instances {
    /// The endpoints of a cluster, `all` in its order.
    pub fn new(
        cluster: &Cluster,
        all: Box<[Rc<Instance>]>,
        vitals: Option<Arc<ClusterVitals>>,
    ) -> Self {
        let probed = cluster.traffic.probe.is_some();
        let watched = vitals.map(|vitals| {
            let endpoints = cluster.endpoints.iter();
            let endpoints = endpoints.map(|it| vitals.endpoint(it.address, probed)).collect();
            Watched { cluster: vitals, endpoints }
        });
        let instances = Self {
            of: Arc::clone(&cluster.endpoints),
            http: cluster.http,
            tls: cluster.tls.clone(),
            traffic: Arc::clone(&cluster.traffic),
            callers: cluster.callers.clone(),
            all,
            elsewhere: elsewhere(cluster),
            seen: Cell::new(watched.as_ref().map_or(0, |watched| watched.cluster.changes())),
            watched,
            pickable: RefCell::default(),
        };
        instances.pickable.replace(instances.pickable());
        instances
    }

    /// Whether these are the endpoints of a cluster, and still seen in the same light.
    pub fn are_of(&self, cluster: &Cluster) -> bool {
        Arc::ptr_eq(&self.of, &cluster.endpoints)
            && self.http == cluster.http
            && self.tls == cluster.tls
            && Arc::ptr_eq(&self.traffic, &cluster.traffic)
            && self.callers == cluster.callers
    }

    /// The place of the endpoint that a request goes to.
    pub fn pick(&self, cluster: &Cluster, ask: Ask) -> Option<(usize, &Rc<Instance>)> {
        if let Some(watched) = &self.watched {
            let changes = watched.cluster.changes();
            if self.seen.replace(changes) != changes {
                self.look_again();
            }
        }
        let window = self.traffic.slow_start;
        let now = (!window.is_zero()).then(Instant::now);
        let pickable = self.pickable.borrow();
        let at = balance::pick(cluster, &pickable, &Seen { instances: self, now }, ask)?;
        Some((at, self.all.get(at)?))
    }

    /// Whether latencies matter.
    pub fn measures(&self) -> bool {
        self.traffic.algorithm == Algorithm::PeakEwma
    }

    /// Whether the endpoint at a place is in another locality than the sidecar, where that matters.
    pub fn is_elsewhere(&self, at: usize) -> bool {
        self.elsewhere.get(at).is_some_and(|elsewhere| *elsewhere)
    }

    /// Whether it matters how they answer.
    pub fn are_judged(&self) -> bool {
        self.watched.is_some()
    }

    /// Takes a sign of the endpoint at a place.
    pub fn observe(&self, cluster: &Cluster, at: usize, worker: usize, sign: Sign) {
        if let Some(watched) = &self.watched
            && let Some(endpoint) = watched.endpoints.get(at)
        {
            watched.cluster.observe(cluster, endpoint, worker, sign);
        }
    }

    /// The endpoint at a place that was picked.
    pub fn at(&self, at: usize) -> Option<&Rc<Instance>> {
        self.all.get(at)
    }

    /// The health of an endpoint has changed. One that came back begins slowly.
    fn look_again(&self) {
        let next = self.pickable();
        let before = self.pickable.replace(next);
        let after = self.pickable.borrow();
        for (at, instance) in self.all.iter().enumerate() {
            if after.may_pick(at) && !before.may_pick(at) {
                instance.joined.set(Some(Instant::now()));
            }
        }
    }

    fn pickable(&self) -> Pickable {
        let good = |at: usize| {
            let endpoint = self.watched.as_ref().and_then(|watched| watched.endpoints.get(at));
            endpoint.is_none_or(|endpoint| endpoint.is_good())
        };
        let Traffic { panic_percent, localities, .. } = *self.traffic;
        Pickable::by_locality(&self.of, good, panic_percent, localities, self.callers.as_deref())
    }
}

/// The load at the moment of a pick.
struct Seen<'a> {
    instances: &'a Instances,
    /// `None` where no endpoint begins slowly.
    now: Option<Instant>,
}

impl Seen<'_> {
    fn at(&self, at: usize) -> Option<&Instance> {
        self.instances.all.get(at).map(|instance| &**instance)
    }
}

impl Load for Seen<'_> {
    fn in_flight(&self, at: usize) -> u32 {
        self.at(at).map_or(0, |instance| instance.running.get())
    }

    fn latency(&self, at: usize) -> f64 {
        self.at(at).map_or(0.0, |instance| instance.latency.get().nanos())
    }

    fn share(&self, at: usize) -> f64 {
        let Some(now) = self.now else { return 1.0 };
        let Some(joined) = self.at(at).and_then(|it| it.joined.get()) else { return 1.0 };
        balance::share(now.saturating_duration_since(joined), self.instances.traffic.slow_start)
    }
}

fn elsewhere(cluster: &Cluster) -> Box<[bool]> {
    let Some(callers) = &cluster.callers else { return Box::default() };
    let is_own = |endpoint: &Endpoint| endpoint.locality.as_deref() == Some(&callers.own);
    cluster.endpoints.iter().map(|endpoint| !is_own(endpoint)).collect()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
