//! A data plane without a control plane, real upstreams and real callers, all in this process.
// Each test file uses a part, and a broken helper is a failed test.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use segue_shared::bucket::Salt;
use segue_shared::shutdown::DrainSignal;
use segue_sidecar::health;
use segue_sidecar::http::Door;
use segue_sidecar::listener::ConnectionGate;
use segue_sidecar::outcome::Counters;
use segue_sidecar::overload::Overload;
use segue_sidecar::settings::AppProtocol;
use segue_sidecar::snapshot_handle::SnapshotHandle;
use segue_sidecar::tls::Mesh;
use segue_sidecar::vitals::Vitals;
use segue_sidecar::workers::{Listening, WorkerSettings, Workers};
use segue_sidecar_core::balance::key_table;
use segue_sidecar_core::snapshot::{
    Cluster, ClusterIndex, ClusterTable, CompiledSnapshot, Endpoint, Forward, HeaderEdits,
    HttpVersion, InjectedFault, Mirror, PathMatcher, PoolLimits, Retry, Route, RouteAction,
    RouteMatcher, RouteTable, Split, SplitKey, TcpTable, Traffic, UpstreamTls, VirtualHost,
};
use tokio::net::TcpStream;

pub mod scripted;
mod tcp;
mod upstream;

#[allow(unused_imports, reason = "each test file uses a part")]
pub use upstream::{BIG, CHUNK, Upstream, upstream};

pub type Body = BoxBody<Bytes, Infallible>;

/// One service `chat` with one version.
pub struct Chat {
    pub http: HttpVersion,
    pub tls: Option<UpstreamTls>,
    pub endpoints: Vec<SocketAddr>,
    pub timeout: Option<Duration>,
    pub retry: Option<Retry>,
    pub limits: PoolLimits,
    pub traffic: Traffic,
    pub try_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub fault: Option<InjectedFault>,
    /// Where copies go: the endpoint of a second version.
    pub mirror: Option<(SocketAddr, Mirror)>,
}

impl Chat {
    pub fn http1(endpoint: SocketAddr) -> Self {
        Self {
            http: HttpVersion::Http1,
            tls: None,
            endpoints: vec![endpoint],
            timeout: Some(Duration::from_secs(10)),
            retry: None,
            limits: PoolLimits::default(),
            traffic: Traffic::default(),
            try_timeout: None,
            idle_timeout: None,
            fault: None,
            mirror: None,
        }
    }

    pub fn http2(endpoint: SocketAddr) -> Self {
        Self { http: HttpVersion::Http2, ..Self::http1(endpoint) }
    }

    pub fn snapshot(&self, generation: u64) -> CompiledSnapshot {
        let endpoints: Arc<[Endpoint]> =
            self.endpoints.iter().map(|&address| Endpoint::new(address)).collect();
        let cluster = Cluster {
            version: segue_shared::xds_names::parse_cluster("default/chat/v1"),
            http: self.http,
            tls: self.tls.clone().map(Arc::new),
            limits: self.limits.clone(),
            keys: key_table(&self.traffic.algorithm, &endpoints),
            traffic: Arc::new(self.traffic.clone()),
            ..Cluster::new(Arc::from("default/chat/v1"), endpoints)
        };
        let mut clusters = vec![Arc::new(cluster)];
        if let Some((address, _)) = &self.mirror {
            clusters.push(Arc::new(Cluster {
                version: segue_shared::xds_names::parse_cluster("default/chat/v2"),
                http: self.http,
                ..Cluster::new(Arc::from("default/chat/v2"), [Endpoint::new(*address)].into())
            }));
        }
        let forward = Forward {
            split: Split {
                key: SplitKey::Random,
                salt: Salt::new("chat"),
                ranges: vec![(10_000, ClusterIndex(0))],
            },
            hash_key: SplitKey::Random,
            timeout: self.timeout,
            try_timeout: self.try_timeout,
            idle_timeout: self.idle_timeout,
            host_rewrite: None,
            path_rewrite: None,
            retry: self.retry.clone(),
            mirrors: self.mirror.iter().map(|(_, mirror)| mirror.clone()).collect(),
        };
        let route = Route {
            name: "".into(),
            matcher: RouteMatcher {
                path: PathMatcher::Prefix("/".into()),
                method: None,
                headers: Vec::new(),
                query: Vec::new(),
            },
            action: RouteAction::Forward(forward),
            fault: self.fault.clone().map(Arc::new),
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
        };
        let host = VirtualHost::new("default/chat", vec![Arc::new(route)]);
        CompiledSnapshot {
            generation,
            revision: None,
            routes: RouteTable {
                exact: HashMap::from([("chat".into(), Arc::new(host))]),
                ignore_port: true,
                ..RouteTable::default()
            }
            .into(),
            tcp: Arc::new(TcpTable::new([Arc::new(tcp::route())])),
            clusters: ClusterTable::new(clusters),
            escaped_slashes: None,
            inbound_mtls: None,
        }
    }
}

/// The data plane.
pub struct Plane {
    pub outbound: SocketAddr,
    pub inbound: Option<SocketAddr>,
    pub snapshots: SnapshotHandle,
    pub counters: Arc<Counters>,
    pub vitals: Arc<Vitals>,
    pub overload: Overload,
    pub drain: DrainSignal,
    pub workers: Workers,
}

pub fn plane(chat: &Chat) -> Plane {
    plane_with_app(chat, None)
}

pub fn plane_with_app(chat: &Chat, app: Option<SocketAddr>) -> Plane {
    plane_with_door(chat, app, Door::default())
}

pub fn plane_with_door(chat: &Chat, app: Option<SocketAddr>, door: Door) -> Plane {
    let app = app.map(|address| (address, AppProtocol::Auto));
    plane_in(Mesh::default(), chat, app, door)
}

/// A data plane that is somebody.
pub fn plane_in(
    mesh: Mesh,
    chat: &Chat,
    app: Option<(SocketAddr, AppProtocol)>,
    door: Door,
) -> Plane {
    let snapshots = SnapshotHandle::new();
    snapshots.publish(chat.snapshot(1));
    let settings = WorkerSettings {
        gate: ConnectionGate::new(10_000),
        overload: Overload::default(),
        workers: 2,
        outbound_address: ([127, 0, 0, 1], 0).into(),
        inbound_address: ([127, 0, 0, 1], 0).into(),
        app,
        mesh,
        drain_timeout: Duration::from_secs(3),
        door: Arc::new(door),
    };
    let counters = Arc::new(Counters::new(settings.workers));
    let drain = DrainSignal::new();
    let vitals = Arc::new(Vitals::new(settings.workers));
    let (workers, _) =
        Workers::start(&snapshots, &settings, Listening::default(), &counters, &vitals, &drain)
            .unwrap();
    let mesh = settings.mesh.clone();
    tokio::spawn(health::watch(snapshots.clone(), Arc::clone(&vitals), mesh, drain.clone()));
    Plane {
        outbound: workers.outbound_address,
        inbound: workers.inbound_address,
        snapshots,
        counters,
        vitals,
        overload: settings.overload,
        drain,
        workers,
    }
}

/// A caller on one connection.
pub enum Caller {
    Http1(hyper::client::conn::http1::SendRequest<Body>),
    Http2(hyper::client::conn::http2::SendRequest<Body>),
}

impl Caller {
    pub async fn connect(http: HttpVersion, address: SocketAddr) -> Self {
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        match http {
            HttpVersion::Http1 => {
                let (sender, driver) = hyper::client::conn::http1::handshake(io).await.unwrap();
                tokio::spawn(driver);
                Self::Http1(sender)
            }
            HttpVersion::Http2 => {
                let executor = TokioExecutor::new();
                let (sender, driver) =
                    hyper::client::conn::http2::handshake(executor, io).await.unwrap();
                tokio::spawn(driver);
                Self::Http2(sender)
            }
        }
    }

    /// Sends a request with a body to a path of `chat`.
    pub async fn send(&mut self, method: &str, path: &str, body: Body) -> Response<Incoming> {
        let request = Request::builder().method(method);
        let request = match self {
            Self::Http1(_) => request.uri(path).header("host", "chat"),
            Self::Http2(_) => request.uri(format!("http://chat{path}")),
        };
        self.request(request.body(body).unwrap()).await
    }

    pub async fn request(&mut self, request: Request<Body>) -> Response<Incoming> {
        self.try_request(request).await.unwrap()
    }

    pub async fn try_request(
        &mut self,
        request: Request<Body>,
    ) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    pub async fn get(&mut self, path: &str) -> (StatusCode, String) {
        let response = self.send("GET", path, empty()).await;
        let status = response.status();
        (status, read(response).await)
    }
}

pub fn empty() -> Body {
    Full::default().boxed()
}

pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::from(bytes.into()).boxed()
}

/// A body of unknown length, in chunks of 64 KiB.
pub fn streamed(length: usize) -> Body {
    let chunks = (0..length / 65536).map(|_| Ok(Frame::data(Bytes::from_static(&CHUNK))));
    BodyExt::boxed(StreamBody::new(futures_util::stream::iter(chunks)))
}

pub async fn read(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Sends raw bytes and reads until the other side closes, or for a while.
pub async fn raw(address: SocketAddr, bytes: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    // An answer that keeps the connection open is complete long before.
    while let Ok(Ok(read)) =
        tokio::time::timeout(Duration::from_millis(700), stream.read(&mut buffer)).await
    {
        if read == 0 {
            break;
        }
        all.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Awaits a condition, at most five seconds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}
