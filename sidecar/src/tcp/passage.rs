//! The way to the other side of a connection: which version and endpoint, and a connection to it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use segue_sidecar_core::balance::{Ask, Tried};
use segue_sidecar_core::routing::Wanted;
use tracing::debug;

use super::refusal::Refusal;
use crate::http1::{Traffic, Tunnel, Wire};
use crate::outcome::ClusterCounters;
use crate::upstream::{
    ConnectError, ORIGINAL_CLUSTER, ORIGINAL_CONNECT_TIMEOUT, OpenConnection, Running, connect,
};
use crate::vitals::Sign;
use crate::worker::{APP_CLUSTER, APP_CONNECT_TIMEOUT, Worker};

const IDLE_TIMEOUT: Duration = Duration::from_hours(1);
/// Endpoints of the chosen version that are tried: nothing was sent to one that did not answer.
const MOST_ATTEMPTS: u32 = 3;

/// A connection to the other side, counted until it is dropped.
pub struct Passage {
    wire: Wire,
    idle_timeout: Option<Duration>,
    counters: Arc<ClusterCounters>,
    worker: usize,
    _open: OpenConnection,
    _running: Option<Running>,
}

/// Opens the way to a service; `None` where no service is meant.
pub async fn open(worker: &Worker, wanted: Wanted<'_>) -> Option<Result<Passage, Refusal>> {
    let view = worker.view();
    let route = Arc::clone(view.snapshot.tcp.route(wanted)?);
    let chosen = route.split.choose(&HeaderMap::new(), worker.draw());
    let Some((cluster, living)) = view.cluster(chosen, &worker.upstreams) else {
        return Some(Err(Refusal::NoEndpoint));
    };
    let mut tried = Tried::default();
    for _ in 0..MOST_ATTEMPTS {
        let turn = living.cluster.turn();
        let ask = Ask { turn, draw: worker.draw(), hash: None, not: tried };
        let Some((at, instance)) = living.instances.pick(cluster, ask) else {
            return Some(Err(Refusal::NoEndpoint));
        };
        let running = instance.run();
        if living.instances.is_elsewhere(at) {
            living.cluster.counters.slot(worker.index).left_locality();
        }
        match instance.pool.open_tcp(cluster).await {
            Ok((socket, open)) => {
                living.instances.observe(cluster, at, worker.index, Sign::Good);
                return Some(Ok(Passage {
                    wire: Wire::new(socket),
                    idle_timeout: route.idle_timeout,
                    counters: Arc::clone(&living.cluster.counters),
                    worker: worker.index,
                    _open: open,
                    _running: Some(running),
                }));
            }
            Err(ConnectError::Overflow(_)) => return Some(Err(Refusal::Overflow)),
            Err(error) => {
                debug!(route = %route.name, address = %instance.address, %error, "no connection");
                living.instances.observe(cluster, at, worker.index, Sign::GatewayError);
                tried = tried.with(at);
            }
        }
    }
    Some(Err(Refusal::ConnectFailed))
}

/// Opens the way to where a captured connection wanted to go.
pub async fn open_original(worker: &Worker, original: SocketAddr) -> Result<Passage, Refusal> {
    open_address(worker, original, ORIGINAL_CLUSTER, ORIGINAL_CONNECT_TIMEOUT).await
}

/// Opens the way to the local application.
pub async fn open_app(worker: &Worker, app: SocketAddr) -> Result<Passage, Refusal> {
    open_address(worker, app, APP_CLUSTER, APP_CONNECT_TIMEOUT).await
}

async fn open_address(
    worker: &Worker,
    address: SocketAddr,
    counted_as: &str,
    timeout: Duration,
) -> Result<Passage, Refusal> {
    let counters = worker.counters.cluster(&Arc::from(counted_as), None);
    let connecting = connect(address, &[], timeout, &counters, worker.index);
    let (stream, open) = connecting.await.map_err(|error| {
        debug!(%address, %error, "no connection");
        Refusal::ConnectFailed
    })?;
    Ok(Passage {
        wire: Wire::new(stream),
        idle_timeout: Some(IDLE_TIMEOUT),
        counters,
        worker: worker.index,
        _open: open,
        _running: None,
    })
}

impl Passage {
    /// The wire to the other side, and what moves bytes between it and the caller's.
    pub fn parts(&mut self) -> (&mut Wire, Tunnel) {
        let counted =
            Rc::new(Counted { counters: Arc::clone(&self.counters), worker: self.worker });
        let tunnel = Tunnel::within(self.idle_timeout).counted_by(counted);
        self.counters.slot(self.worker).tunnelled();
        (&mut self.wire, tunnel)
    }
}

/// Counts bytes where the cluster's other counters are.
struct Counted {
    counters: Arc<ClusterCounters>,
    worker: usize,
}

impl Traffic for Counted {
    fn there(&self, bytes: usize) {
        self.counters.slot(self.worker).tunnelled_there(bytes as u64);
    }

    fn back(&self, bytes: usize) {
        self.counters.slot(self.worker).tunnelled_back(bytes as u64);
    }
}
