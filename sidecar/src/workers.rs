//! The threads that carry traffic: their beginning, their ticks, and their drain.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use segue_shared::shutdown::DrainSignal;
use segue_sidecar_core::overload::Step;
use thiserror::Error;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::http::{Caller, Direction, Door, serve_connection};
use crate::listener::{BindError, ConnectionGate, Listener, Verdict, accept, adopt};
use crate::outcome::Counters;
use crate::overload::Overload;
use crate::settings::AppProtocol;
use crate::snapshot_handle::SnapshotHandle;
use crate::tls::Mesh;
use crate::vitals::Vitals;
use crate::worker::Worker;

/// Between looks at connections and pools.
const TICK: Duration = Duration::from_secs(1);
/// Between looks at what is left in the drain.
const DRAIN_TICK: Duration = Duration::from_millis(20);
/// Idle connections stay open this long into the drain, so that a request which is on its way still
/// gets its answer; at most this part of the drain.
const IDLE_GRACE: Duration = Duration::from_secs(5);
const IDLE_GRACE_PART: u32 = 6;

/// After the application's last request, its own new requests are taken this long: while it answers,
/// it may need others.
const OUTBOUND_GRACE: Duration = Duration::from_millis(500);

/// How the data plane listens and works.
#[derive(Clone)]
pub struct WorkerSettings {
    /// Number of threads.
    pub workers: usize,
    /// Listener of the application's own requests; port 0: any.
    pub outbound_address: SocketAddr,
    /// Listener of requests for the application; none without an application.
    pub inbound_address: SocketAddr,
    /// The local application.
    pub app: Option<(SocketAddr, AppProtocol)>,
    /// Cap on callers' connections, shared by all workers.
    pub gate: ConnectionGate,
    /// How short memory is.
    pub overload: Overload,
    /// Longest wait for running requests at the end.
    pub drain_timeout: Duration,
    /// What is asked of requests, and told of callers.
    pub door: Arc<Door>,
    /// Who the sidecar is to others.
    pub mesh: Mesh,
}

/// The running data plane.
pub struct Workers {
    /// Where the application sends its requests.
    pub outbound_address: SocketAddr,
    /// Where requests for the application arrive.
    pub inbound_address: Option<SocketAddr>,
    ended: Vec<oneshot::Receiver<()>>,
}

/// Listening sockets by direction.
#[derive(Debug, Default)]
pub struct Listening {
    pub outbound: Vec<TcpListener>,
    pub inbound: Vec<TcpListener>,
}

/// A data plane that cannot begin.
#[derive(Debug, Error)]
pub enum WorkersError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot start a worker thread: {0}")]
    Thread(#[from] io::Error),
}

impl Workers {
    /// Listens, on sockets that another process listened on where there are any, and serves until
    /// `drain` is cancelled and what runs has ended. Gives copies of the sockets as well, for whoever
    /// takes its place: they keep the ports open until they are dropped.
    pub fn start(
        snapshots: &SnapshotHandle,
        settings: &WorkerSettings,
        inherited: Listening,
        counters: &Arc<Counters>,
        vitals: &Arc<Vitals>,
        drain: &DrainSignal,
    ) -> Result<(Self, Listening), WorkersError> {
        let count = settings.workers.max(1);
        let outbound = adopt("outbound", settings.outbound_address, inherited.outbound, count)?;
        let of_inbound = inherited.inbound;
        let inbound = settings
            .app
            .map(|_| adopt("inbound", settings.inbound_address, of_inbound, count))
            .transpose()?;
        let listening = Listening {
            outbound: copies(&outbound.sockets)?,
            inbound: inbound.as_ref().map_or(Ok(Vec::new()), |it| copies(&it.sockets))?,
        };
        let outbound_address = outbound.address;
        let inbound_address = inbound.as_ref().map(|listener| listener.address);
        let mut sockets = by_worker(count, outbound, inbound);
        let mut ended = Vec::with_capacity(count);
        for index in 0..count {
            let sockets = std::mem::take(&mut sockets[index]);
            let (snapshots, counters) = (snapshots.clone(), Arc::clone(counters));
            let vitals = Arc::clone(vitals);
            let (settings, drain) = (settings.clone(), drain.clone());
            let (end, at_end) = oneshot::channel();
            ended.push(at_end);
            thread::Builder::new().name(format!("segue-worker-{index}")).spawn(move || {
                let (mesh, app) = (settings.mesh.clone(), settings.app);
                let mut worker = Worker::new(index, &snapshots, &counters, &vitals, mesh, app);
                worker.overload = settings.overload.clone();
                if let Err(error) = run(worker, sockets, &settings, &drain) {
                    tracing::error!(%error, worker = index, "a worker cannot run");
                }
                // Nobody waits where the process ends without a drain.
                let _ = end.send(());
            })?;
        }
        Ok((Self { outbound_address, inbound_address, ended }, listening))
    }

    /// Waits until all workers have ended, which they do after the drain signal.
    pub async fn drained(self) {
        for ended in self.ended {
            // A worker that panicked has ended as well.
            let _ = ended.await;
        }
    }
}

/// The listening sockets of one worker.
#[derive(Default)]
struct Sockets(Vec<(Direction, TcpListener)>);

fn by_worker(count: usize, outbound: Listener, inbound: Option<Listener>) -> Vec<Sockets> {
    let mut all: Vec<Sockets> = (0..count).map(|_| Sockets::default()).collect();
    let listeners =
        [Some((Direction::Outbound, outbound)), inbound.map(|i| (Direction::Inbound, i))];
    for (direction, listener) in listeners.into_iter().flatten() {
        for (index, socket) in listener.sockets.into_iter().enumerate() {
            all[index % count].0.push((direction, socket));
        }
    }
    all
}

fn copies(sockets: &[TcpListener]) -> io::Result<Vec<TcpListener>> {
    sockets.iter().map(TcpListener::try_clone).collect()
}

fn run(
    worker: Worker,
    sockets: Sockets,
    settings: &WorkerSettings,
    drain: &DrainSignal,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let worker = Rc::new(worker);
        let deadlines = Rc::clone(&worker.deadlines);
        tokio::task::spawn_local(async move { deadlines.run().await });
        let outbound_drain = match settings.app {
            Some(_) => DrainSignal::new(),
            None => drain.clone(),
        };
        for (direction, socket) in sockets.0 {
            let drain = match direction {
                Direction::Inbound => drain,
                Direction::Outbound => &outbound_drain,
            };
            let listener = tokio::net::TcpListener::from_std(socket)?;
            let (worker, drain) = (Rc::clone(&worker), drain.clone());
            let (gate, door) = (settings.gate.clone(), Arc::clone(&settings.door));
            tokio::task::spawn_local(accept(listener, drain, move |stream, address| {
                if worker.overload.step() == Step::Refuse {
                    gate.refuse();
                    return;
                }
                let Some(entered) = gate.enter() else { return };
                let worker = Rc::clone(&worker);
                let caller = Caller::new(direction, address, &stream, &door);
                tokio::task::spawn_local(async move {
                    serve_connection(worker, caller, stream).await;
                    drop(entered);
                });
            }));
        }
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                now = ticks.tick() => worker.tick(now),
                () = drain.cancelled() => break,
            }
        }
        end(&worker, settings.drain_timeout, &outbound_drain).await;
        Ok(())
    })
}

/// The drain: announce it, let run what runs, close what is idle, and at last close all. The
/// application is served with its own requests as long as it answers others.
async fn end(worker: &Worker, timeout: Duration, outbound: &DrainSignal) {
    let begun = Instant::now();
    let mut last_answering = begun;
    worker.begin_drain();
    worker.watches.decide(Verdict::Announce);
    let idle_grace = IDLE_GRACE.min(timeout / IDLE_GRACE_PART);
    loop {
        tokio::time::sleep(DRAIN_TICK).await;
        let age = begun.elapsed();
        if worker.app_requests() > 0 {
            last_answering = Instant::now();
        }
        if last_answering.elapsed() >= OUTBOUND_GRACE || age >= timeout {
            outbound.cancel();
        }
        let finish_idle = age >= idle_grace && outbound.is_cancelled();
        worker.watches.tick(Instant::now(), finish_idle);
        // Those that were accepted last have not heard it yet.
        worker.watches.decide(Verdict::Announce);
        let open = worker.watches.open();
        if open == 0 && outbound.is_cancelled() {
            info!(worker = worker.index, took = ?age, "drained");
            return;
        }
        if age >= timeout {
            warn!(worker = worker.index, open, "the drain is over, connections are cut");
            worker.watches.decide(Verdict::Close);
            tokio::task::yield_now().await;
            return;
        }
    }
}
