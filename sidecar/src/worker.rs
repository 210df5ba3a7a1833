//! One worker: a thread with its own runtime, sockets, pools and view of the snapshot. Nothing on
//! the way of a request is shared with another worker.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use segue_sidecar_core::balance::mixed;
use segue_sidecar_core::overload::Step;
use segue_sidecar_core::snapshot::{Cluster, Endpoint, HttpVersion};
use tokio::time::Instant;

use crate::deadline::Deadlines;
use crate::http1::close_idle_pipes;
use crate::listener::ConnectionWatches;
use crate::outcome::Counters;
use crate::overload::Overload;
use crate::settings::AppProtocol;
use crate::snapshot_handle::{SnapshotCache, SnapshotHandle};
use crate::tls::Mesh;
use crate::upstream::{Living, Originals, SnapshotView, Upstreams};
use crate::vitals::Vitals;

/// Name under which requests to the local application are counted.
pub const APP_CLUSTER: &str = "inbound";
/// Connecting within the machine either works at once or not at all.
pub const APP_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The state of one worker.
pub struct Worker {
    /// Place among the workers, from 0.
    pub index: usize,
    /// Deadlines of its requests.
    pub deadlines: Rc<Deadlines>,
    /// Connections of its callers.
    pub watches: ConnectionWatches,
    /// Connections to upstreams.
    pub upstreams: Upstreams,
    /// Where captured requests wanted to go that no service is meant by.
    pub originals: Originals,
    /// Counters, shared with other workers.
    pub counters: Arc<Counters>,
    /// How short memory is.
    pub overload: Overload,
    /// Requests that are held on purpose.
    pub delayed: Cell<u32>,
    /// Who the sidecar is to others.
    pub mesh: Mesh,
    app: Option<App>,
    cache: RefCell<SnapshotCache>,
    view: RefCell<Rc<SnapshotView>>,
    draining: Cell<bool>,
    draws: Cell<u64>,
}

/// The local application.
struct App {
    http1: (Cluster, Living),
    http2: (Cluster, Living),
    protocol: AppProtocol,
}

impl Worker {
    /// A worker that serves nobody yet.
    pub fn new(
        index: usize,
        snapshots: &SnapshotHandle,
        counters: &Arc<Counters>,
        vitals: &Arc<Vitals>,
        mesh: Mesh,
        app: Option<(SocketAddr, AppProtocol)>,
    ) -> Self {
        let (of_all, health) = (Arc::clone(counters), Arc::clone(vitals));
        let upstreams = Upstreams::new(index, of_all, health, mesh.clone());
        let mut cache = snapshots.cached();
        let view = Rc::new(SnapshotView::new(Arc::clone(cache.load())));
        Self {
            index,
            deadlines: Rc::default(),
            watches: ConnectionWatches::default(),
            app: app.map(|(address, protocol)| App::new(address, protocol, &upstreams)),
            upstreams,
            originals: Originals::default(),
            counters: Arc::clone(counters),
            overload: Overload::default(),
            delayed: Cell::new(0),
            mesh,
            cache: RefCell::new(cache),
            view: RefCell::new(view),
            draining: Cell::new(false),
            draws: Cell::new(RandomState::new().hash_one(index)),
        }
    }

    /// The snapshot of this moment: taken once a request and kept for the whole of it.
    pub fn view(&self) -> Rc<SnapshotView> {
        let mut cache = self.cache.borrow_mut();
        let current = cache.load();
        let mut view = self.view.borrow_mut();
        if !Arc::ptr_eq(current, &view.snapshot) {
            *view = Rc::new(SnapshotView::new(Arc::clone(current)));
            self.upstreams.reconcile(current);
        }
        Rc::clone(&view)
    }

    /// The local application as a cluster, in the protocol that suits a request.
    pub fn app(&self, grpc: bool) -> Option<(&Cluster, &Living)> {
        let app = self.app.as_ref()?;
        let (cluster, living) = match app.protocol {
            AppProtocol::Http2 => &app.http2,
            AppProtocol::Auto if grpc => &app.http2,
            // Requests do not get here where it is bytes that it wants.
            AppProtocol::Auto | AppProtocol::Http1 | AppProtocol::Tcp => &app.http1,
        };
        Some((cluster, living))
    }

    /// The local application, where it speaks no HTTP.
    pub fn tcp_app(&self) -> Option<SocketAddr> {
        let app = self.app.as_ref().filter(|app| app.protocol == AppProtocol::Tcp)?;
        app.http1.0.endpoints.first().map(|endpoint| endpoint.address)
    }

    /// Requests that run in the local application, of all workers.
    pub fn app_requests(&self) -> u64 {
        let app = self.app.as_ref();
        app.map_or(0, |app| app.http1.1.cluster.counters.totals().in_flight)
    }

    /// A uniform draw.
    pub fn draw(&self) -> u64 {
        let state = self.draws.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.draws.set(state);
        mixed(state)
    }

    /// Whether connections of callers end after the answer.
    pub fn closes_connections(&self) -> bool {
        self.is_draining() || self.overload.step() >= Step::NoKeepAlive
    }

    /// Whether the worker is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// From now on answers ask callers to close their connections.
    pub fn begin_drain(&self) {
        self.draining.set(true);
    }

    /// What is done once a second.
    pub fn tick(&self, now: Instant) {
        let view = self.view();
        if self.overload.step() >= Step::ShortenIdle {
            self.watches.end_idle(now);
        }
        self.watches.tick(now, false);
        self.upstreams.tick(now, &view.snapshot);
        self.originals.tick(now);
        close_idle_pipes();
        if let Some(App { http1: (cluster, living), .. }) = &self.app {
            // Both protocols share one living part.
            living.cluster.tick(now, cluster);
        }
    }
}

impl App {
    fn new(address: SocketAddr, protocol: AppProtocol, upstreams: &Upstreams) -> Self {
        let endpoints: Arc<[Endpoint]> = [Endpoint::new(address)].into();
        let cluster = |http| Cluster {
            http,
            connect_timeout: APP_CONNECT_TIMEOUT,
            ..Cluster::new(Arc::from(APP_CLUSTER), Arc::clone(&endpoints))
        };
        let (http1, http2) = (cluster(HttpVersion::Http1), cluster(HttpVersion::Http2));
        let shared = upstreams.apart(&http1);
        let living = |cluster: &Cluster| Living {
            instances: shared.instances(cluster),
            cluster: Rc::clone(&shared),
        };
        let (living1, living2) = (living(&http1), living(&http2));
        Self { http1: (http1, living1), http2: (http2, living2), protocol }
    }
}
