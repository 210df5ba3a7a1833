//! The application behind the sidecars: small, real, and honest about which version it is.
//!
//! | request | answer |
//! |---|---|
//! | `GET /…` | `{"version":…,"instance":…,"method":…,"path":…,"host":…}` |
//! | `POST /…` | the body of the request |
//! | `/bytes?n=1024` | so many bytes |
//! | `/sse?n=10&ms=100` | so many events, one each interval |
//! | `/status/503` | that status |
//! | `/delay?ms=100` | as `GET /`, later |
//! | a gRPC call of a method `Echo` | the messages of the call, as they come |
//! | any other gRPC call | one message: the version |
//! | `/ws` that asks for WebSocket | the bytes that come, once it has agreed |
//!
//! Every answer carries `x-version` and `x-instance` (the address it listens on). HTTP/1.1 and
//! HTTP/2 with prior knowledge share one port.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{
    CONNECTION, CONTENT_TYPE, HOST, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

type Body = BoxBody<Bytes, hyper::Error>;

/// The largest answer of `/bytes`.
const MAX_BYTES: usize = 64 << 20;

/// What one instance is.
#[derive(Clone, Debug)]
pub struct Echo {
    /// What `x-version` says.
    pub version: String,
    /// Time before each answer.
    pub delay: Duration,
}

impl Echo {
    /// Serves until the listener fails.
    pub async fn serve(self, listener: TcpListener) -> io::Result<()> {
        let instance = Arc::new(Instance {
            version: header(&self.version)?,
            address: header(&listener.local_addr()?.to_string())?,
            echo: self,
        });
        loop {
            let (stream, _) = listener.accept().await?;
            let _ = stream.set_nodelay(true);
            let instance = Arc::clone(&instance);
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(Arc::clone(&instance), request));
                let mut server = auto::Builder::new(TokioExecutor::new());
                server.http1().timer(TokioTimer::new());
                server.http2().max_concurrent_streams(1000);
                // A caller that goes away is its own affair.
                let io = TokioIo::new(stream);
                let _ = server.serve_connection_with_upgrades(io, service).await;
            });
        }
    }
}

struct Instance {
    version: HeaderValue,
    address: HeaderValue,
    echo: Echo,
}

fn header(value: &str) -> io::Result<HeaderValue> {
    HeaderValue::from_str(value).map_err(io::Error::other)
}

async fn answer(
    instance: Arc<Instance>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if !instance.echo.delay.is_zero() {
        tokio::time::sleep(instance.echo.delay).await;
    }
    let path = request.uri().path().to_owned();
    let mut response = match path.as_str() {
        _ if is_grpc(&request) && path.ends_with("/Echo") => grpc_echo(request),
        _ if is_grpc(&request) => grpc(&instance.echo.version),
        "/ws" if request.headers().contains_key(UPGRADE) => websocket(request),
        "/bytes" => Response::new(full(bytes(&request))),
        "/sse" => events(number(request.uri(), "n", 10), number(request.uri(), "ms", 100)),
        "/delay" => {
            tokio::time::sleep(Duration::from_millis(number(request.uri(), "ms", 100))).await;
            describe(&instance.echo, &instance.address, &request)
        }
        _ if path.starts_with("/status/") => {
            let code = path["/status/".len()..].parse().ok();
            let code = code.and_then(|code| StatusCode::from_u16(code).ok());
            let mut response = Response::new(full(Bytes::new()));
            *response.status_mut() = code.unwrap_or(StatusCode::BAD_REQUEST);
            response
        }
        _ if request.method() == Method::POST => Response::new(request.into_body().boxed()),
        _ => describe(&instance.echo, &instance.address, &request),
    };
    let headers = response.headers_mut();
    headers.insert("x-version", instance.version.clone());
    headers.insert("x-instance", instance.address.clone());
    Ok(response)
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// One message that holds the version as it is, and the status OK.
fn grpc(version: &str) -> Response<Body> {
    let length = u32::try_from(version.len()).unwrap_or(0);
    let mut message = vec![0];
    message.extend(length.to_be_bytes());
    message.extend(version.as_bytes());
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let frames = [Frame::data(Bytes::from(message)), Frame::trailers(trailers)].map(Ok);
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let mut response = Response::new(BodyExt::boxed(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Messages as they come, and the status OK.
fn grpc_echo(request: Request<Incoming>) -> Response<Body> {
    let frames = request.into_body().into_data_stream().map(|data| data.map(Frame::data));
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let end = futures_util::stream::once(async { Ok(Frame::trailers(trailers)) });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames.chain(end))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Agrees without a look at the key; no one here checks it.
/// Agrees as RFC 6455 says, and sends back whatever comes.
fn websocket(request: Request<Incoming>) -> Response<Body> {
    let key = request.headers().get(SEC_WEBSOCKET_KEY).map_or(&[][..], HeaderValue::as_bytes);
    let accept = BASE64_STANDARD.encode(digest(
        &SHA1_FOR_LEGACY_USE_ONLY,
        &[key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat(),
    ));
    tokio::spawn(async move {
        let Ok(switched) = hyper::upgrade::on(request).await else { return };
        let (mut from, mut to) = tokio::io::split(TokioIo::new(switched));
        if tokio::io::copy(&mut from, &mut to).await.is_ok() {
            let _ = to.shutdown().await;
        }
    });
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.extend(HeaderValue::try_from(accept).ok().map(|it| (SEC_WEBSOCKET_ACCEPT, it)));
    response
}

fn describe(echo: &Echo, address: &HeaderValue, request: &Request<Incoming>) -> Response<Body> {
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(""),
    };
    let text = serde_json::json!({
        "version": echo.version,
        "instance": address.to_str().unwrap_or(""),
        "method": request.method().as_str(),
        "path": request.uri().path(),
        "host": host,
    });
    let mut response = Response::new(full(Bytes::from(format!("{text}\n"))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn bytes(request: &Request<Incoming>) -> Bytes {
    let n = number(request.uri(), "n", 1024);
    Bytes::from(vec![b'x'; usize::try_from(n).unwrap_or(MAX_BYTES).min(MAX_BYTES)])
}

fn events(n: u64, interval_ms: u64) -> Response<Body> {
    let events = futures_util::stream::iter(0..n).then(move |i| async move {
        if i > 0 {
            tokio::time::sleep(Duration::from_millis(interval_ms)).await;
        }
        Ok(Frame::data(Bytes::from(format!("id: {i}\ndata: event {i}\n\n"))))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(events)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn number(uri: &Uri, key: &str, default: u64) -> u64 {
    let pairs = uri.query().unwrap_or("").split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .into_iter()
        .find(|(name, _)| *name == key)
        .map_or(default, |(_, value)| value.parse().unwrap_or(default))
}
