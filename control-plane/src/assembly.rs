//! Puts the parts together: from settings to a running control plane, and to its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use segue_control_plane_core::config::MeshConfig;
use segue_shared::ids::Revision;
use segue_shared::shutdown::DrainSignal;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::server::Router;
use tower_layer::{Identity, Stack};

use crate::access::{Access, AccessError, AdminGate, Connections, Ground, Port, Wire};
use crate::admin::{Admin, AdminError, Ledger};
use crate::declared::{self, Declared};
use crate::discovery;
use crate::fleet::{self, Fleet, Gate};
use crate::http::{self, Pages};
use crate::identity::{Membership, OpenError};
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::publish::Publisher;
use crate::replicas::Replica;
use crate::settings::Settings;
use crate::store::{EtcdStore, Follower, Following, RedbStore, Store, StoreError};
use crate::xds::{self, SnapshotCache, StreamThreads, Streams, XdsServices, xds_services};

/// Time for what was cut to end.
const CUT: Duration = Duration::from_secs(1);

/// A running control plane. Dropping it stops it at once.
pub struct ControlPlane {
    pub xds_address: SocketAddr,
    pub admin_address: SocketAddr,
    pub http_address: SocketAddr,
    drain: DrainSignal,
    drain_most: Duration,
    /// Of both gRPC ports.
    connections: [Connections; 2],
    /// Ends the audit log where those who write to it do not.
    audit_end: DrainSignal,
    tasks: JoinSet<&'static str>,
    _stream_threads: StreamThreads,
}

/// A control plane that does not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("--{name}-address {address} cannot be served: {source}")]
    Bind { name: &'static str, address: SocketAddr, source: io::Error },
    #[error(
        "--{name}-address {address} is reachable from other machines, and tokens would travel in \
         plain text: give --{name}-tls-cert and --{name}-tls-key, use a loopback address such as \
         127.0.0.1, or say --insecure-dev if whoever reaches the port may read and change everything"
    )]
    NotLoopback { name: &'static str, address: SocketAddr },
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Identity(#[from] OpenError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("threads cannot be started: {0}")]
    Threads(io::Error),
    #[error("the store cannot be opened: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// Opens the store and serves all ports.
pub async fn start(settings: Settings) -> Result<ControlPlane, StartError> {
    check_exposure(&settings)?;
    let (store, etcd) = open_store(&settings).await?;

    let stream_threads =
        StreamThreads::start(settings.xds.xds_threads).map_err(StartError::Threads)?;
    let streams = stream_threads.streams();
    let (xds, xds_address) = {
        let _of_streams = streams.handle().enter();
        bind("xds", settings.xds_address)?
    };
    let (admin, admin_address) = bind("admin", settings.admin_address)?;
    let (http, http_address) = bind("http", settings.http_address)?;

    let drain = DrainSignal::new();
    // Ends before the drain where what is streamed is not what the store holds.
    let streaming = drain.child_token();
    let fleet = Fleet::with(fleet::Settings {
        stale_after: Duration::from_secs(u64::from(settings.stale_after_seconds)),
        report_interval: Duration::from_secs(u64::from(settings.report_interval_seconds)),
    });
    if *store.watch().borrow() > Revision::NONE {
        fleet.may_come_back();
    }
    let replica = etcd
        .as_ref()
        .map(|(etcd, _)| Replica::new(fleet.clone(), etcd.clone(), admin_address.to_string()));
    let metrics = Metrics::new();
    let ground = Ground {
        data_dir: &settings.data_dir,
        insecure_dev: settings.insecure_dev,
        several: !settings.etcd.endpoints.is_empty(),
    };
    let access_metrics = metrics.access().clone();
    let membership = open_membership(&settings, ground.several, &metrics).await?;
    let mut access =
        Access::open(&settings.access, ground, membership.as_ref(), access_metrics.clone())?;
    let rotation = membership.as_ref().map(Membership::rotation);
    let server_certificate = membership.as_ref().and_then(|it| it.server.clone());
    let domain = settings.identity.trust_domain.clone();
    let cache = SnapshotCache::new(metrics.streams()).of_trust_domain(domain);
    let streamed = metrics.streams();
    let leadership = Leadership::new(metrics.clone());
    let declared = Declared::new(Arc::clone(&store));
    let most_resources = usize::try_from(settings.max_resources).unwrap_or(usize::MAX);
    let pages = Pages {
        store,
        fleet: fleet.clone(),
        declared: declared.watch(),
        following: etcd.as_ref().map(|(etcd, _)| etcd.following()),
        metrics: metrics.clone(),
        drain: drain.clone(),
    };
    let api = Admin {
        ledger: Arc::new(Ledger::new(declared.clone(), most_resources, metrics)),
        fleet: fleet.clone(),
        drain: drain.clone(),
        settings: settings.admin.clone(),
        tokens: membership.as_ref().map(|membership| membership.tokens.clone()),
        rotation: rotation.clone(),
    };
    let api = api.router(access.admin.clone()).await?;
    let services =
        xds_services(cache.clone(), fleet.clone(), settings.xds, streamed, streaming.clone())
            .behind(access.join.clone(), access.xds_threshold.clone())
            .issuing(membership);

    let threshold = access.admin_threshold.clone();
    let admin_connections =
        Connections::new(settings.admin.limits(), access_metrics.admin_connections.clone());
    let connections = [services.connections(), admin_connections.clone()];
    let incoming = threshold.arrivals(admin, admin_connections);
    let audit_end = DrainSignal::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(publish(declared.watch(), cache, fleet, streams.clone(), drain.clone()));
    tasks.spawn(named("declared", declared.run(drain.clone())));
    tasks.spawn_on(named("xds", serve_xds(services, xds, drain.clone())), streams.handle());
    tasks.spawn(named("admin", serve("admin", api, incoming, drain.clone())));
    if let Some(audit) = access.audit.take() {
        let end = audit_end.clone();
        tasks.spawn_blocking(move || {
            audit.run(&end);
            "audit"
        });
    }
    tasks.spawn(named("access", access.follow(drain.clone())));
    if let Some(server) = server_certificate {
        tasks.spawn(named("certificate", server.keep(drain.clone())));
    }
    if let Some(rotation) = rotation {
        tasks.spawn(named("rotation", rotation.walk(drain.clone())));
    }
    tasks.spawn(named("http", http::serve(http, pages)));
    if let Some(replica) = replica.transpose()? {
        tasks.spawn(named("replica", replica.run(drain.clone())));
    }
    match etcd {
        Some((etcd, follower)) => {
            let name = format!("{admin_address} {}", std::process::id());
            let end = end_streams(etcd.following(), streaming, drain.clone());
            tasks.spawn(named("follower", follow_store(follower, drain.clone())));
            tasks.spawn(named("streams", end));
            tasks.spawn(named("leader", leadership.run(etcd, name, drain.clone())));
        }
        None => leadership.lead_alone(),
    }
    let drain_most = Duration::from_secs(u64::from(settings.drain_seconds));
    Ok(ControlPlane {
        xds_address,
        admin_address,
        http_address,
        drain,
        drain_most,
        connections,
        audit_end,
        tasks,
        _stream_threads: stream_threads,
    })
}

/// The store, once more as what it is where it is etcd, with its follower.
async fn open_store(
    settings: &Settings,
) -> Result<(Arc<dyn Store>, Option<(EtcdStore, Follower)>), StartError> {
    let retention = usize::try_from(settings.retention).unwrap_or(usize::MAX);
    if settings.etcd.endpoints.is_empty() {
        let directory = settings.data_dir.clone();
        let open = move || RedbStore::open(&directory, retention);
        return Ok((Arc::new(tokio::task::spawn_blocking(open).await??), None));
    }
    let (store, follower) = EtcdStore::open(&settings.etcd, retention).await?;
    Ok((Arc::new(store.clone()), Some((store, follower))))
}

/// The authority of the mesh.
async fn open_membership(
    settings: &Settings,
    several: bool,
    metrics: &Metrics,
) -> Result<Option<Membership>, StartError> {
    let (identity, data_dir) = (settings.identity.clone(), settings.data_dir.clone());
    let metrics = metrics.identity().clone();
    let open = move || identity.open(&data_dir, several, metrics);
    Ok(tokio::task::spawn_blocking(open).await??)
}

async fn follow_store(follower: Follower, drain: DrainSignal) {
    tokio::select! {
        () = follower.run() => {}
        () = drain.cancelled() => {}
    }
}

/// Ends the streams, and those that come, once the store is not followed any more: what is streamed
/// stays as it is, and another control plane may do better.
async fn end_streams(
    mut following: watch::Receiver<Following>,
    streaming: DrainSignal,
    drain: DrainSignal,
) {
    let stopped = async {
        // An error is the end of the store.
        let _ = following.wait_for(|following| following.stopped.is_some()).await;
        streaming.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = stopped => {}
        () = drain.cancelled() => {}
    }
}

impl ControlPlane {
    /// Takes no new work, lets open requests end, and stops.
    pub async fn shutdown(mut self) {
        self.drain.cancel();
        if self.ended_within(self.drain_most).await {
            return;
        }
        tracing::warn!("open requests are cut after {:?}", self.drain_most);
        for connections in &self.connections {
            connections.cut_all();
        }
        if self.ended_within(CUT).await {
            return;
        }
        self.audit_end.cancel();
        self.tasks.abort_all();
        if !self.ended_within(CUT).await {
            tracing::error!(parts = self.tasks.len(), "parts that do not end are left behind");
        }
    }

    async fn ended_within(&mut self, most: Duration) -> bool {
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(most, ended).await.is_ok()
    }

    /// Waits until a part ends that should not, and names it.
    pub async fn failed(&mut self) -> &'static str {
        match self.tasks.join_next().await {
            Some(Ok(name)) => name,
            Some(Err(error)) => {
                tracing::error!(%error, "a part broke");
                "a part"
            }
            None => "everything",
        }
    }
}

/// Publishes once there is a configuration to publish, and tells what is not published.
async fn publish(
    declared: watch::Receiver<declared::State>,
    cache: SnapshotCache,
    fleet: Fleet,
    streams: Streams,
    drain: DrainSignal,
) -> &'static str {
    let name = "publish";
    let told = tell_faults(declared.clone(), fleet.clone());
    tokio::select! {
        () = publish_good(declared, cache, fleet, streams, drain) => {}
        () = told => {}
    }
    name
}

async fn publish_good(
    mut declared: watch::Receiver<declared::State>,
    cache: SnapshotCache,
    fleet: Fleet,
    streams: Streams,
    drain: DrainSignal,
) {
    let first = tokio::select! {
        state = declared.wait_for(|state| state.config.is_some()) => {
            state.ok().and_then(|state| state.config.clone())
        }
        () = drain.cancelled() => None,
    };
    let Some(first) = first else { return };
    let (sender, receiver) = watch::channel(first);
    let follow = follow(declared, sender);
    let publisher = Publisher::new(receiver, cache, fleet, streams, discovery::Settings::default());
    tokio::select! {
        () = publisher.run(drain) => {}
        () = follow => {}
    }
}

/// Tells the fleet what of the store does not pass the checks.
async fn tell_faults(mut declared: watch::Receiver<declared::State>, fleet: Fleet) {
    loop {
        let held_back = declared.borrow_and_update().held_back();
        fleet.hold_back(Gate::Checks, held_back);
        if declared.changed().await.is_err() {
            // The follower of the store is gone: the drain has begun, which ends the publisher.
            std::future::pending::<()>().await;
        }
    }
}

/// Hands on every good configuration.
async fn follow(
    mut declared: watch::Receiver<declared::State>,
    sender: watch::Sender<Arc<MeshConfig>>,
) {
    loop {
        let good = declared.borrow_and_update().config.clone();
        sender.send_if_modified(|current| match good {
            Some(good) if !Arc::ptr_eq(&good, current) => {
                *current = good;
                true
            }
            _ => false,
        });
        if declared.changed().await.is_err() {
            // The follower of the store is gone: the drain has begun, which ends the publisher.
            std::future::pending::<()>().await;
        }
    }
}

/// What is not encrypted stays on this machine.
fn check_exposure(settings: &Settings) -> Result<(), StartError> {
    for (port, address) in
        [(Port::Xds, settings.xds_address), (Port::Admin, settings.admin_address)]
    {
        let named = port == Port::Xds && !settings.identity.xds_tls_names.is_empty();
        let kept = address.ip().is_loopback() || settings.access.encrypts(port) || named;
        if !kept && !settings.insecure_dev {
            return Err(StartError::NotLoopback { name: port.as_str(), address });
        }
    }
    Ok(())
}

fn bind(name: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = xds::listen(address).and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|source| StartError::Bind { name, address, source })
}

async fn serve(
    name: &'static str,
    router: Router<Stack<AdminGate, Identity>>,
    incoming: impl Stream<Item = io::Result<Wire>>,
    drain: DrainSignal,
) {
    let served = router.serve_with_incoming_shutdown(incoming, drain.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, name, "a port is not served any more");
    }
}

async fn serve_xds(services: XdsServices, listener: TcpListener, drain: DrainSignal) {
    if let Err(error) = services.serve(listener, drain).await {
        tracing::error!(%error, "the xDS port is not served any more");
    }
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}
