//! Puts the sidecar together: data plane, control plane's client, reports and admin endpoint.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use segue_proto::report::v1::Node;
use segue_shared::ids::Revision;
use segue_shared::shutdown::DrainSignal;
use segue_shared::telemetry::LogLevel;
use thiserror::Error;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::access_log::AccessLogError;
use crate::admin::{self, Admin, AdminError};
use crate::control_plane::{ControlPlaneError, ControlPlanes};
use crate::health::{self, ProbeWarm};
use crate::http::Door;
use crate::identity::{Begin, Followed, IdentitySource, SourceError};
use crate::listener::{ConnectionGate, default_cap};
use crate::outcome::Counters;
use crate::overload::Overload;
use crate::report::Report;
use crate::settings::Settings;
use crate::snapshot_file::{self, DataLock, SnapshotFileError};
use crate::snapshot_handle::SnapshotHandle;
use crate::takeover::{self, Claim, ClaimError, Offer, Place, Role};
use crate::tls::Mesh;
use crate::vitals::Vitals;
use crate::workers::{Listening, WorkerSettings, Workers, WorkersError};
use crate::xds::{self, XdsSettings};

/// Wait for the configuration that a predecessor runs on, where the disk does not hold it.
const CATCH_UP_TIME: Duration = Duration::from_secs(10);
/// Wait for the last report and the last write to disk.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A running sidecar. Its control side runs on the runtime that started it, its workers on threads
/// of their own.
pub struct Sidecar {
    /// Where the application sends its requests.
    pub outbound_address: SocketAddr,
    /// Where requests for the application arrive; `None` without an application.
    pub inbound_address: Option<SocketAddr>,
    /// Where people and probes ask.
    pub admin_address: SocketAddr,
    /// The snapshot that requests run on.
    pub snapshots: SnapshotHandle,
    workers: Workers,
    drain: DrainSignal,
    stop: DrainSignal,
    control: Vec<JoinHandle<()>>,
    /// Held to the end: nobody else writes there.
    _data_lock: Option<DataLock>,
}

/// A sidecar that cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    Workers(#[from] WorkersError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    #[error(transparent)]
    DataDir(#[from] SnapshotFileError),
    #[error("no identity: {0}")]
    Identity(#[from] SourceError),
    #[error(transparent)]
    TakeOver(#[from] ClaimError),
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
}

/// Starts a sidecar whose logs are someone else's. All listeners are open when it returns.
pub async fn start(settings: Settings) -> Result<Sidecar, StartError> {
    start_with(settings, None).await
}

/// Starts a sidecar; `POST /logging` changes `log_level`.
pub async fn start_with(
    settings: Settings,
    log_level: Option<LogLevel>,
) -> Result<Sidecar, StartError> {
    let mesh = Mesh::default();
    let control_planes = ControlPlanes { mesh: mesh.clone(), ..settings.control_planes() };
    control_planes.check()?;
    if settings.insecure_dev {
        warn!("development mode: the join token may go to other machines without TLS");
    }
    let (data_lock, mut predecessor) = own(&settings).await?;
    let inherited = predecessor.as_mut().map(|it| std::mem::take(&mut it.sockets));
    let inherited = inherited.unwrap_or_default();
    let access_log = settings.access_log()?;
    let overload = Overload::default();
    let (drain, stop) = (DrainSignal::new(), DrainSignal::new());
    let snapshots = SnapshotHandle::new();
    // Asked for also where the cap is given: upstreams need files as well.
    let most_connections = default_cap();
    let gate = ConnectionGate::new(settings.max_connections.unwrap_or(most_connections));
    let renewals = Followed::default();
    let begin = Begin {
        control_planes: control_planes.clone(),
        service: settings.service.clone(),
        node_id: settings.node_id(),
        mesh: mesh.clone(),
        followed: renewals.clone(),
        draw,
    };
    let renewing = settings.identity.begin(begin, stop.clone()).await?;
    let worker_settings = WorkerSettings {
        mesh: mesh.clone(),
        workers: settings.worker_count(),
        outbound_address: settings.outbound_address,
        inbound_address: settings.inbound_address,
        app: settings.app_address.map(|address| (address, settings.app_protocol)),
        gate: gate.clone(),
        overload: overload.clone(),
        drain_timeout: settings.drain_timeout,
        door: Arc::new(Door { access_log: access_log.clone(), ..settings.door() }),
    };
    let counters = Arc::new(Counters::new(worker_settings.workers));
    let vitals = Arc::new(Vitals::new(worker_settings.workers));
    // First what the disk holds, so that the first caller already meets it.
    let (mut client, follower) = xds::restore(
        XdsSettings {
            service: settings.service.to_string(),
            version: settings.version.to_string(),
            locality: settings.locality(),
            protocol: settings.xds_protocol.into(),
            data_dir: settings.data_dir.clone(),
            dns: settings.dns(),
            control_planes: control_planes.clone(),
            takes_authorities: settings.identity.identity == IdentitySource::ControlPlane,
            ..XdsSettings::new("", settings.node_id())
        },
        snapshots.clone(),
        ProbeWarm::new(Arc::clone(&vitals), mesh.clone()),
    )
    .await;
    // From here on a failure must end what was begun.
    let stopping = stop.clone().drop_guard();
    let admin_socket = admin::listen(settings.admin_address, inherited.admin)?;
    let admin_address = admin_socket.local_addr().map_err(AdminError::from)?;
    let admin_copy = admin_socket.try_clone().map_err(AdminError::from)?;
    // Two sidecars of one node id would push each other off the control plane: what has a predecessor
    // follows when that one has stopped to, unless it was left nothing to serve with.
    let (go, following, unfollowed) = (DrainSignal::new(), stop.child_token(), DrainSignal::new());
    let (may, until, end) = (go.clone(), following.clone(), unfollowed.clone());
    let followed = tokio::spawn(async move {
        if until.run_until_cancelled(may.cancelled()).await.is_some() {
            follower.run(until).await;
        }
        end.cancel();
    });
    let behind = predecessor.as_ref().filter(|it| client.revision().0 < it.revision);
    if let Some(predecessor) = behind {
        go.cancel();
        client.reaches(Revision(predecessor.revision), CATCH_UP_TIME).await;
    }
    let listening = Listening { outbound: inherited.outbound, inbound: inherited.inbound };
    let (workers, listening) =
        Workers::start(&snapshots, &worker_settings, listening, &counters, &vitals, &drain)?;
    let begun = drain.clone().drop_guard();
    let report = Report {
        control_planes,
        following: client.following.clone(),
        node: Node {
            id: settings.node_id(),
            service: settings.service.to_string(),
            version: settings.version.to_string(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
        },
        delivery: client.delivery.clone(),
        counters: Arc::clone(&counters),
    };
    let (may, until) = (go.clone(), following.clone());
    let reporting = tokio::spawn(async move {
        if until.run_until_cancelled(may.cancelled()).await.is_some() {
            report.run(until, draw).await;
        }
    });
    let watching =
        health::watch(snapshots.clone(), Arc::clone(&vitals), mesh.clone(), stop.clone());
    let watching = tokio::spawn(watching);
    let weighing = tokio::spawn(overload.clone().watch(settings.memory_limit_bytes, stop.clone()));
    let revision = client.revisions();
    let admin = Admin {
        node_id: settings.node_id(),
        snapshots: snapshots.clone(),
        counters,
        vitals,
        gate,
        delivery: client.delivery,
        status: client.status,
        views: client.views,
        drain: drain.clone(),
        log_level,
        access_log,
        overload,
        mesh,
        renewals,
    };
    // Where another one takes the place of this one, that one answers from then on.
    let serving = admin::serve(admin_socket, admin, following.clone())?;
    begun.disarm();
    stopping.disarm();
    if let Some(predecessor) = predecessor
        && let Err(error) = predecessor.serves().await
    {
        warn!(%error, "the sidecar whose place this one takes may not drain by itself");
    }
    go.cancel();
    let mut control = vec![followed, reporting, watching, weighing, serving];
    control.extend(renewing);
    if let Some((data_dir, lock)) = settings.data_dir.as_deref().zip(data_lock.as_ref()) {
        let files = files(listening, admin_copy, lock.copy().ok());
        let place = Place { files, revision, following, unfollowed, drain: drain.clone() };
        match Offer::open(data_dir) {
            Ok(offer) => control.push(tokio::spawn(offer.stand(place))),
            Err(error) => warn!(%error, "a new release needs a restart"),
        }
    }
    info!(
        outbound = %workers.outbound_address,
        inbound = ?workers.inbound_address,
        admin = %admin_address,
        workers = worker_settings.workers,
        "sidecar listens"
    );
    Ok(Sidecar {
        outbound_address: workers.outbound_address,
        inbound_address: workers.inbound_address,
        admin_address,
        snapshots,
        workers,
        drain,
        stop,
        control,
        _data_lock: data_lock,
    })
}

impl Sidecar {
    /// Waits until somebody asks for the drain over the admin endpoint.
    pub async fn drain_asked(&self) {
        self.drain.cancelled().await;
    }

    /// Drains and ends: not ready, then no new connections, then running requests end, at most for
    /// the drain timeout. The control plane is followed to the end, so that what runs is routed
    /// right.
    pub async fn shutdown(self) {
        self.drain.cancel();
        self.workers.drained().await;
        self.stop.cancel();
        for task in self.control {
            let aborted = task.abort_handle();
            if tokio::time::timeout(LAST_WORDS, task).await.is_err() {
                warn!("a task of the sidecar did not end in time");
                aborted.abort();
            }
        }
    }
}

/// The data directory for this process alone: nobody's, or given by the sidecar that has it.
async fn own(settings: &Settings) -> Result<(Option<DataLock>, Option<Claim>), StartError> {
    let Some(data_dir) = &settings.data_dir else { return Ok((None, None)) };
    match snapshot_file::lock(data_dir) {
        Err(taken @ SnapshotFileError::Taken(_)) if settings.take_over => {
            let mut claim = takeover::claim(data_dir).await?.ok_or(taken)?;
            let lock = claim.sockets.lock.take().map(DataLock::inherited);
            Ok((lock, Some(claim)))
        }
        locked => Ok((Some(locked?), None)),
    }
}

/// What is handed over with the place of this sidecar.
fn files(listening: Listening, admin: TcpListener, lock: Option<OwnedFd>) -> Vec<(Role, OwnedFd)> {
    let outbound = listening.outbound.into_iter().map(|it| (Role::Outbound, it.into()));
    let inbound = listening.inbound.into_iter().map(|it| (Role::Inbound, it.into()));
    let others = [(Role::Admin, admin.into())].into_iter().chain(lock.map(|it| (Role::Lock, it)));
    outbound.chain(inbound).chain(others).collect()
}

/// Uniform in 0.0..1.0.
fn draw() -> f64 {
    (RandomState::new().hash_one(0u8) >> 11) as f64 / (1u64 << 53) as f64
}
