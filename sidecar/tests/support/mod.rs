//! A data plane without a control plane, real upstreams and real callers, all in this process.
// Each test file uses a part, and a broken helper is a failed test.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
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
use segue_sidecar::vitals::Vitals;
use segue_sidecar::workers::{Listening, WorkerSettings, Workers};
use segue_sidecar_core::balance::key_table;
use segue_sidecar_core::snapshot::{
    Cluster, ClusterIndex, ClusterTable, CompiledSnapshot, Endpoint, Forward, HeaderEdits,
    HttpVersion, InjectedFault, Mirror, PathMatcher, PoolLimits, Retry, Route, RouteAction,
    RouteMatcher, RouteTable, Split, SplitKey, TcpTable, Traffic, VirtualHost,
};
use tokio::net::{TcpListener, TcpStream};

pub mod scripted;
mod tcp;

pub type Body = BoxBody<Bytes, Infallible>;

/// One service `chat` with one version.
pub struct Chat {
    pub http: HttpVersion,
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
    let snapshots = SnapshotHandle::new();
    snapshots.publish(chat.snapshot(1));
    let settings = WorkerSettings {
        gate: ConnectionGate::new(10_000),
        overload: Overload::default(),
        workers: 2,
        outbound_address: ([127, 0, 0, 1], 0).into(),
        inbound_address: ([127, 0, 0, 1], 0).into(),
        app: app.map(|address| (address, AppProtocol::Auto)),
        drain_timeout: Duration::from_secs(3),
        door: Arc::new(door),
    };
    let counters = Arc::new(Counters::new(settings.workers));
    let drain = DrainSignal::new();
    let vitals = Arc::new(Vitals::new(settings.workers));
    let (workers, _) =
        Workers::start(&snapshots, &settings, Listening::default(), &counters, &vitals, &drain)
            .unwrap();
    tokio::spawn(health::watch(snapshots.clone(), Arc::clone(&vitals), drain.clone()));
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

/// An upstream that answers by path.
pub struct Upstream {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    pub requests: Arc<AtomicUsize>,
    /// Bytes of the bodies that it echoed.
    pub echoed: Arc<AtomicUsize>,
    /// A status that it answers to everything; 0: by path.
    pub status: Arc<AtomicU16>,
    pub task: tokio::task::JoinHandle<()>,
}

impl Upstream {
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub fn bytes(&self) -> usize {
        self.echoed.load(Ordering::SeqCst)
    }

    /// From now on everything is answered with this status.
    pub fn answer_only(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

pub async fn upstream(http: HttpVersion) -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let status = Arc::<AtomicU16>::default();
    let (accepted, answered) = (Arc::clone(&connections), Arc::clone(&requests));
    let only = Arc::clone(&status);
    let echoed = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&echoed);
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            accepted.fetch_add(1, Ordering::SeqCst);
            let (answered, only) = (Arc::clone(&answered), Arc::clone(&only));
            let counted = Arc::clone(&counted);
            let service = service_fn(move |request| {
                answered.fetch_add(1, Ordering::SeqCst);
                let only = StatusCode::from_u16(only.load(Ordering::SeqCst)).ok();
                let counted = Arc::clone(&counted);
                async move {
                    Ok::<_, Infallible>(match only {
                        Some(status) => {
                            let mut response = text("only this");
                            *response.status_mut() = status;
                            response
                        }
                        None => answer(request, counted).await,
                    })
                }
            });
            let io = TokioIo::new(stream);
            tokio::spawn(async move {
                // A caller that goes away is part of the tests.
                let _ = match http {
                    HttpVersion::Http1 => {
                        let builder = hyper::server::conn::http1::Builder::new();
                        builder.serve_connection(io, service).await
                    }
                    HttpVersion::Http2 => {
                        let builder =
                            hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        builder.serve_connection(io, service).await
                    }
                };
            });
        }
    });
    Upstream { address, connections, requests, echoed, status, task }
}

pub const BIG: usize = 10 * 1024 * 1024;
static CHUNK: [u8; 65536] = [7; 65536];

async fn answer(request: Request<Incoming>, echoed: Arc<AtomicUsize>) -> Response<Body> {
    if request.method() == http::Method::HEAD {
        let mut response = Response::new(Full::default().boxed());
        response.headers_mut().insert("content-length", "5".parse().unwrap());
        return response;
    }
    match request.uri().path() {
        "/echo" => {
            let length = request.headers().get("content-length").cloned();
            let body = request.into_body().map_frame(move |frame| {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                echoed.fetch_add(bytes, Ordering::SeqCst);
                frame
            });
            let body = body.map_err(|_| unreachable!());
            let mut response = Response::new(body.boxed());
            if let Some(length) = length {
                response.headers_mut().insert("content-length", length);
            }
            response
        }
        "/count" => {
            let mut body = request.into_body();
            let mut count = 0;
            while let Some(Ok(frame)) = body.frame().await {
                count += frame.data_ref().map_or(0, Bytes::len);
            }
            text(&count.to_string())
        }
        "/big" => {
            let chunks = futures_util::stream::iter(
                (0..BIG / 65536)
                    .map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from_static(&CHUNK)))),
            );
            Response::new(BodyExt::boxed(StreamBody::new(chunks)))
        }
        "/trailers" => {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let trailers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                http::HeaderValue::from_static("0"),
            )]);
            let frames = [Ok(Frame::data(body)), Ok::<_, Infallible>(Frame::trailers(trailers))];
            let body = StreamBody::new(futures_util::stream::iter(frames));
            let mut response = Response::new(BodyExt::boxed(body));
            let grpc = http::HeaderValue::from_static("application/grpc");
            response.headers_mut().insert("content-type", grpc);
            response
        }
        "/head" => {
            let mut lines =
                format!("{} {:?} {}\n", request.method(), request.version(), request.uri());
            for (name, value) in request.headers() {
                writeln!(lines, "{name}: {}", value.to_str().unwrap()).unwrap();
            }
            let mut response = text(&lines);
            let headers = response.headers_mut();
            headers.insert("keep-alive", "timeout=1".parse().unwrap());
            response
        }
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(500)).await;
            text("slow")
        }
        "/brief" => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            text("brief")
        }
        "/never" => std::future::pending().await,
        "/stalls" => {
            let begun = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"begun")))]);
            let stalled = futures_util::StreamExt::chain(begun, futures_util::stream::pending());
            let mut response = Response::new(BodyExt::boxed(StreamBody::new(stalled)));
            if let Some(kind) = request.headers().get("content-type") {
                response.headers_mut().insert("content-type", kind.clone());
            }
            response
        }
        "/close" => {
            let mut response = text("bye");
            response.headers_mut().insert("connection", "close".parse().unwrap());
            response
        }
        "/unavailable" => {
            let mut response = text("not now");
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        }
        "/empty" => {
            let mut response = Response::new(Full::default().boxed());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        _ => text("hello"),
    }
}

fn text(text: &str) -> Response<Body> {
    Response::new(Full::from(text.to_owned()).boxed())
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
