//! The HTTP server of the admin endpoint, on the control runtime.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use segue_shared::shutdown::DrainSignal;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::codegen::Service as _;
use tracing::{info, warn};

use super::csds::{self, ClientStatusServer};
use super::state::Admin;
use super::{dump, metrics};
use crate::listener::{BindError, adopt};

/// Callers at one time; the next ones wait.
const MOST_CONNECTIONS: usize = 64;
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// A caller gets its answers within this time, however it reads.
const CONNECTION_TIME: Duration = Duration::from_mins(1);
/// Calls at one time on one connection of HTTP/2.
const MOST_STREAMS: u32 = 16;
const MOST_HEADER_BYTES: u32 = 16 << 10;
const NOT_LOCAL: &str = "the Host must be localhost or a loopback address";
const PEEK_PAUSE: Duration = Duration::from_millis(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An admin endpoint that cannot begin.
#[derive(Debug, Error)]
pub enum AdminError {
    #[error("the admin endpoint listens on loopback only, and {0} is not a loopback address")]
    NotLoopback(SocketAddr),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("the admin endpoint cannot begin: {0}")]
    Socket(#[from] io::Error),
}

/// Listens, or goes on with a socket that another process listened on.
pub fn listen(
    address: SocketAddr,
    inherited: Vec<std::net::TcpListener>,
) -> Result<std::net::TcpListener, AdminError> {
    if !address.ip().is_loopback() {
        return Err(AdminError::NotLoopback(address));
    }
    let listener = adopt("admin", address, inherited, 1)?;
    let fail = || io::Error::other("no socket").into();
    listener.sockets.into_iter().next().ok_or_else(fail)
}

/// Serves until `stop`.
pub fn serve(
    socket: std::net::TcpListener,
    admin: Admin,
    stop: DrainSignal,
) -> Result<JoinHandle<()>, AdminError> {
    let accepting = accept(TcpListener::from_std(socket)?, Arc::new(admin));
    let task = tokio::spawn(async move {
        // At the end, what runs is dropped: nothing here is worth waiting for.
        let _ = stop.run_until_cancelled(accepting).await;
    });
    Ok(task)
}

async fn accept(listener: TcpListener, admin: Arc<Admin>) {
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let status = csds::server(admin.views.clone());
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (admin, status) = (Arc::clone(&admin), status.clone());
                // Bounded by its slot and by its time.
                tokio::spawn(async move {
                    let connection = connection(stream, admin, status);
                    let _ = tokio::time::timeout(CONNECTION_TIME, connection).await;
                    drop(slot);
                });
            }
            Err(error) => {
                warn!(%error, "admin cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// HTTP/1.1 for people and probes, HTTP/2 with prior knowledge for gRPC; either takes both.
async fn connection(stream: TcpStream, admin: Arc<Admin>, status: ClientStatusServer) {
    let Ok(Ok(http2)) = tokio::time::timeout(HEAD_TIMEOUT, begins_http2(&stream)).await else {
        return;
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let (admin, status) = (Arc::clone(&admin), status.clone());
        async move { Ok::<_, Infallible>(serve_one(&admin, status, request).await) }
    });
    let io = TokioIo::new(stream);
    let served = if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MOST_STREAMS)
            .max_header_list_size(MOST_HEADER_BYTES)
            .serve_connection(io, service)
            .await
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        builder.serve_connection(io, service).await
    };
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended");
    }
}

/// Whether the first bytes are those of HTTP/2's preface, which no request of HTTP/1.1 begins with.
async fn begins_http2(stream: &TcpStream) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI ";
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        let begun = first.get(..count).unwrap_or_default();
        if count == 0 || !PREFACE.starts_with(begun) {
            return Ok(false);
        }
        if count == PREFACE.len() {
            return Ok(true);
        }
        // The rest is on its way; looking does not wait for it.
        tokio::time::sleep(PEEK_PAUSE).await;
    }
}

async fn serve_one(
    admin: &Admin,
    mut status: ClientStatusServer,
    request: Request<Incoming>,
) -> Response<Either<Full<Bytes>, tonic::body::Body>> {
    let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let grpc = content_type.is_some_and(|value| value.starts_with(b"application/grpc"));
    if !grpc {
        return answer(admin, &request).map(Either::Left);
    }
    if !asks_local(&request) {
        return Status::permission_denied(NOT_LOCAL).into_http().map(Either::Right);
    }
    match status.call(request).await {
        Ok(response) => response.map(Either::Right),
        Err(never) => match never {},
    }
}

/// Whether the host that is asked is this machine. A web page that had its name resolved to this
/// machine would come with that name.
fn asks_local<B>(request: &Request<B>) -> bool {
    let named = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    [named, authority].into_iter().flatten().all(is_local) && named.or(authority).is_some()
}

fn answer<B>(admin: &Admin, request: &Request<B>) -> Response<Full<Bytes>> {
    if !asks_local(request) {
        return plain(StatusCode::FORBIDDEN, &format!("{NOT_LOCAL}\n"));
    }
    let path = request.uri().path();
    let mutates = matches!(path, "/drain" | "/logging");
    match (request.method(), mutates) {
        (&Method::POST, true) | (&Method::GET | &Method::HEAD, false) => {}
        (_, true) => return plain(StatusCode::METHOD_NOT_ALLOWED, "use POST\n"),
        (_, false) => return plain(StatusCode::METHOD_NOT_ALLOWED, "use GET\n"),
    }
    match path {
        "/livez" => plain(StatusCode::OK, "live\n"),
        "/readyz" => ready(admin),
        "/metrics" => typed("text/plain; version=0.0.4; charset=utf-8", metrics::render(admin)),
        "/config_dump" => json(&dump::config(admin)),
        "/clusters" => json(&dump::clusters(admin)),
        "/drain" => {
            info!("drain asked for over the admin endpoint");
            admin.drain.cancel();
            plain(StatusCode::ACCEPTED, "draining\n")
        }
        "/logging" => set_level(admin, request.uri().query()),
        "/" => plain(StatusCode::OK, INDEX),
        _ => plain(StatusCode::NOT_FOUND, INDEX),
    }
}

const INDEX: &str = "GET /livez\nGET /readyz\nGET /metrics\nGET /config_dump\nGET /clusters\n\
                     POST /drain\nPOST /logging?level=LEVEL\n";

fn ready(admin: &Admin) -> Response<Full<Bytes>> {
    if admin.drain.is_cancelled() {
        plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if admin.snapshots.load().generation == 0 {
        plain(StatusCode::SERVICE_UNAVAILABLE, "no configuration yet\n")
    } else {
        plain(StatusCode::OK, "ready\n")
    }
}

fn set_level(admin: &Admin, query: Option<&str>) -> Response<Full<Bytes>> {
    let level = query
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("level="))
        .map(|level| level.replace("%2C", ",").replace("%3D", "="));
    match (level, &admin.log_level) {
        (None, _) => plain(StatusCode::BAD_REQUEST, "say which: /logging?level=debug\n"),
        (Some(_), None) => plain(StatusCode::CONFLICT, "logs are not this sidecar's to change\n"),
        (Some(level), Some(handle)) => match handle.set(&level) {
            Ok(()) => plain(StatusCode::OK, "changed\n"),
            Err(error) => plain(StatusCode::BAD_REQUEST, &format!("{error}\n")),
        },
    }
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = typed("text/plain; charset=utf-8", text.to_owned());
    *response.status_mut() = status;
    response
}

fn json(value: &serde_json::Value) -> Response<Full<Bytes>> {
    typed("application/json", format!("{value:#}\n"))
}

fn typed(content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use segue_sidecar_core::snapshot::CompiledSnapshot;

    use tokio::sync::watch;

    use super::*;
    use crate::activate::DeliveryState;
    use crate::outcome::Counters;
    use crate::snapshot_handle::SnapshotHandle;
    use crate::xds::{XdsStatus, XdsViews};

    fn admin() -> Admin {
        Admin {
            gate: crate::listener::ConnectionGate::new(1),
            node_id: "test".into(),
            snapshots: SnapshotHandle::new(),
            counters: Arc::new(Counters::new(1)),
            vitals: Arc::new(crate::vitals::Vitals::new(1)),
            delivery: watch::channel(DeliveryState::default()).1,
            status: watch::channel(XdsStatus::default()).1,
            views: XdsViews::of_nobody(),
            drain: DrainSignal::new(),
            log_level: None,
            access_log: None,
            mesh: crate::tls::Mesh::default(),
            renewals: crate::identity::Followed::default(),
            overload: crate::overload::Overload::default(),
        }
    }

    fn ask(admin: &Admin, method: &str, path: &str, host: &str) -> StatusCode {
        let request = Request::builder().method(method).uri(path).header(HOST, host);
        answer(admin, &request.body(()).unwrap()).status()
    }

    #[test]
    fn ready_is_a_snapshot_and_no_drain() {
        let admin = admin();
        let ready = || ask(&admin, "GET", "/readyz", "localhost:1").as_u16();
        assert_eq!(ready(), 503);
        admin.snapshots.publish(CompiledSnapshot { generation: 1, ..Default::default() });
        assert_eq!(ready(), 200);
        assert_eq!(ask(&admin, "POST", "/drain", "localhost").as_u16(), 202);
        assert!(admin.drain.is_cancelled());
        assert_eq!(ready(), 503);
    }

    #[test]
    fn changes_need_post_and_a_local_host() {
        let admin = admin();
        for (method, path, host, status) in [
            ("GET", "/drain", "localhost", 405),
            ("POST", "/drain", "evil.test", 403),
            ("GET", "/livez", "127.0.0.1.evil.test", 403),
            ("GET", "/livez", "[::1]:16000", 200),
            ("GET", "/config_dump", "127.0.0.1:16000", 200),
            ("GET", "/clusters", "127.0.0.1:16000", 200),
            ("GET", "/metrics", "127.0.0.1:16000", 200),
            ("POST", "/logging", "127.0.0.1", 400),
            ("POST", "/metrics", "127.0.0.1", 405),
            ("GET", "/nothing", "127.0.0.1", 404),
        ] {
            assert_eq!(ask(&admin, method, path, host).as_u16(), status, "{method} {path} {host}");
        }
        assert!(!admin.drain.is_cancelled());
    }
}
