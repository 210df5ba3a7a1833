//! The kinds of calls, each checked to its last byte.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::call::{Call, call, chain, empty, pieces};
use crate::draws::Draws;
use crate::load::Protocol;

const PIECES: usize = 12;
const PIECE_BYTES: usize = 8 << 10;
const PIECE_PAUSE: Duration = Duration::from_millis(25);
const DOWNLOAD_BYTES: usize = 2_000_000;
const GRPC: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

/// A kind of call. Those with a number are of that version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Server-sent events.
    Events1,
    Events2,
    /// A body that streams in both directions.
    Upload1,
    Upload2,
    GrpcUnary,
    GrpcStream,
    WebSocket,
    /// `CONNECT` to a service that speaks no HTTP.
    Tcp,
    Download1,
    /// One that takes its time.
    SlowReader1,
    SlowReader2,
    /// Callers that go in the middle of an answer.
    Vanishing1,
    Vanishing2,
    /// Uploads that break off.
    Aborted1,
    Aborted2,
    /// A connection that says half of something, or shuts one side, and then nothing.
    HalfOpen,
}

/// Where calls go.
#[derive(Clone, Debug)]
pub struct Targets {
    pub sidecar: SocketAddr,
    /// The service of test applications.
    pub http: String,
    /// The service of test applications that are called by gRPC.
    pub grpc: String,
    /// The service that sends back what it gets, with its port.
    pub tcp: String,
}

impl Kind {
    /// One call.
    pub(super) async fn once(self, to: &Targets, draws: &mut Draws) -> Result<(), String> {
        use Protocol::{Http1, Http2};
        match self {
            Self::Events1 => events(Http1, to, draws).await,
            Self::Events2 => events(Http2, to, draws).await,
            Self::Upload1 => upload(Http1, to).await,
            Self::Upload2 => upload(Http2, to).await,
            Self::GrpcUnary => grpc(to, "/test.Test/Say", 1).await,
            Self::GrpcStream => grpc(to, "/test.Test/Echo", PIECES).await,
            Self::WebSocket => websocket(to).await,
            Self::Tcp => tcp(to).await,
            Self::Download1 => download(Http1, to, Duration::ZERO).await,
            Self::SlowReader1 => download(Http1, to, Duration::from_millis(10)).await,
            Self::SlowReader2 => download(Http2, to, Duration::from_millis(10)).await,
            Self::Vanishing1 => vanishing(Http1, to).await,
            Self::Vanishing2 => vanishing(Http2, to).await,
            Self::Aborted1 => aborted(Http1, to, draws).await,
            Self::Aborted2 => aborted(Http2, to, draws).await,
            Self::HalfOpen => half_open(to, draws).await,
        }
    }
}

async fn events(protocol: Protocol, to: &Targets, draws: &mut Draws) -> Result<(), String> {
    let count = 5 + draws.below(20);
    let path = format!("/sse?n={count}&ms=40");
    let call = call(protocol, to.sidecar, &to.http, &path, &[], empty()).await?;
    let (bytes, _) = read(call).await?;
    let events = String::from_utf8_lossy(&bytes).matches("data:").count();
    same("events", events, count as usize)
}

async fn upload(protocol: Protocol, to: &Targets) -> Result<(), String> {
    let body = pieces(PIECES, PIECE_PAUSE, piece);
    let call = call(protocol, to.sidecar, &to.http, "/upload", &[], body).await?;
    let (bytes, _) = read(call).await?;
    let sent: Vec<u8> = (0..PIECES).flat_map(piece).collect();
    if bytes == sent { Ok(()) } else { same("bytes", bytes.len(), sent.len()) }
}

async fn grpc(to: &Targets, path: &str, messages: usize) -> Result<(), String> {
    let body = pieces(messages, PIECE_PAUSE, message);
    let call = call(Protocol::Http2, to.sidecar, &to.grpc, path, &GRPC, body).await?;
    let (bytes, status) = read(call).await?;
    if status.as_deref() != Some("0") {
        return Err(format!("grpc-status {status:?}"));
    }
    if messages == 1 {
        return if bytes.is_empty() { Err("no message".into()) } else { Ok(()) };
    }
    same("bytes", bytes.len(), (0..messages).map(|number| message(number).len()).sum())
}

async fn download(protocol: Protocol, to: &Targets, pause: Duration) -> Result<(), String> {
    let path = format!("/bytes?n={DOWNLOAD_BYTES}");
    let mut call = call(protocol, to.sidecar, &to.http, &path, &[], empty()).await?;
    let mut bytes = 0;
    while let Some(frame) = call.answer.body_mut().frame().await {
        let frame = frame.map_err(|error| format!("body: {}", chain(&error)))?;
        bytes += frame.data_ref().map_or(0, Bytes::len);
        sleep(pause).await;
    }
    same("bytes", bytes, DOWNLOAD_BYTES)
}

async fn websocket(to: &Targets) -> Result<(), String> {
    let ask = format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n",
        to.http
    );
    tunnel(to, &ask, "101").await
}

async fn tcp(to: &Targets) -> Result<(), String> {
    let ask = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", to.tcp);
    tunnel(to, &ask, "200").await
}

/// Asks for a tunnel to what sends everything back, and uses it.
async fn tunnel(to: &Targets, ask: &str, status: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("tunnel: {error}");
    let stream = TcpStream::connect(to.sidecar).await.map_err(failed)?;
    let mut stream = BufReader::new(stream);
    stream.write_all(ask.as_bytes()).await.map_err(failed)?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.map_err(failed)? == 0 {
            return Err(format!("no answer: {head:?}"));
        }
    }
    if !head.starts_with(&format!("HTTP/1.1 {status} ")) {
        return Err(head.lines().next().unwrap_or_default().to_owned());
    }
    for number in 0..PIECES {
        let sent = piece(number);
        stream.write_all(&sent).await.map_err(failed)?;
        let mut back = vec![0; sent.len()];
        stream.read_exact(&mut back).await.map_err(failed)?;
        if back != sent {
            return Err("other bytes came back".into());
        }
        sleep(PIECE_PAUSE).await;
    }
    stream.shutdown().await.map_err(failed)?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.map_err(failed)?;
    same("bytes after the end", rest.len(), 0)
}

/// Only the begin of the answer is asked for: it ends badly by intention.
async fn vanishing(protocol: Protocol, to: &Targets) -> Result<(), String> {
    let path = "/sse?n=100&ms=20";
    let mut call = call(protocol, to.sidecar, &to.http, path, &[], empty()).await?;
    match call.answer.body_mut().frame().await {
        Some(Ok(_)) => Ok(()),
        other => Err(format!("no body: {other:?}")),
    }
}

async fn aborted(protocol: Protocol, to: &Targets, draws: &mut Draws) -> Result<(), String> {
    let body = pieces(PIECES, PIECE_PAUSE, piece);
    let headers = [("content-length", "10000000")];
    // Of HTTP/2 only where the length is not told, which would be checked here already.
    let headers = if protocol == Protocol::Http1 { &headers[..] } else { &[] };
    let calling = call(protocol, to.sidecar, &to.http, "/upload", headers, body);
    let patience = Duration::from_millis(u64::from(20 + draws.below(150)));
    // Whatever it came to: it is dropped.
    drop(tokio::time::timeout(patience, calling).await);
    Ok(())
}

async fn half_open(to: &Targets, draws: &mut Draws) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("half-open: {error}");
    let mut stream = TcpStream::connect(to.sidecar).await.map_err(failed)?;
    let whole = format!("GET /sse?n=20&ms=20 HTTP/1.1\r\nHost: {}\r\n\r\n", to.http);
    let said = match draws.below(3) {
        0 => "",
        1 => &whole[..whole.len() / 2],
        _ => &whole,
    };
    stream.write_all(said.as_bytes()).await.map_err(failed)?;
    if draws.below(2) == 0 {
        stream.shutdown().await.map_err(failed)?;
    }
    sleep(Duration::from_millis(u64::from(draws.below(1500)))).await;
    Ok(())
}

/// The whole body, and the status of gRPC.
async fn read(mut call: Call) -> Result<(Bytes, Option<String>), String> {
    let body = call.answer.body_mut().collect().await;
    let body = body.map_err(|error| format!("body: {}", chain(&error)))?;
    let status = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
    // An answer without messages may have it in its head.
    let status = status.or_else(|| call.answer.headers().get("grpc-status"));
    let status = status.and_then(|status| status.to_str().ok()).map(ToOwned::to_owned);
    Ok((body.to_bytes(), status))
}

fn same(what: &str, got: usize, wanted: usize) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("{got} {what}, not {wanted}")) }
}

fn piece(number: usize) -> Bytes {
    Bytes::from((0..PIECE_BYTES).map(|at| (at / 7 + number) as u8).collect::<Vec<u8>>())
}

/// A message of gRPC with its prefix.
fn message(number: usize) -> Bytes {
    let text = format!("message {number}");
    let length = (text.len() as u32).to_be_bytes();
    [&[0][..], &length, text.as_bytes()].concat().into()
}
