//! A stream of gRPC and a WebSocket that stay open for as long as the test takes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::call::call;
use super::kind::Targets;
use crate::load::Protocol;

/// Between two messages.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
const MESSAGE: &[u8] = &[0, 0, 0, 0, 4, b'p', b'i', b'n', b'g'];

/// Both, until they are stopped.
pub struct Long {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<(Result<u64, String>, Result<u64, String>)>,
}

impl Long {
    pub fn start(targets: &Targets) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stopping = Arc::<AtomicBool>::default();
        let (targets, stop) = (targets.clone(), Arc::clone(&stopping));
        let thread = std::thread::Builder::new().name("long".into()).spawn(move || {
            runtime.block_on(async {
                tokio::join!(
                    grpc(targets.sidecar, &targets.grpc, Arc::clone(&stop)),
                    websocket(targets.sidecar, &targets.http, &stop)
                )
            })
        })?;
        Ok(Self { stopping, thread })
    }

    /// Messages that came back on the stream of gRPC and on the WebSocket. An error says which of
    /// them broke, and how.
    pub fn stop(self) -> Result<(u64, u64), String> {
        self.stopping.store(true, Ordering::Release);
        let (grpc, websocket) = self.thread.join().map_err(|_| "it panicked".to_owned())?;
        let grpc = grpc.map_err(|error| format!("gRPC: {error}"))?;
        Ok((grpc, websocket.map_err(|error| format!("WebSocket: {error}"))?))
    }
}

async fn grpc(target: SocketAddr, service: &str, stopping: Arc<AtomicBool>) -> Result<u64, String> {
    let sent = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&sent);
    let messages = unfold((), move |()| {
        let (stopping, counted) = (Arc::clone(&stopping), Arc::clone(&counted));
        async move {
            sleep(PAUSE).await;
            if stopping.load(Ordering::Acquire) {
                return None;
            }
            counted.fetch_add(1, Ordering::Relaxed);
            Some((Ok(Frame::data(Bytes::from_static(MESSAGE))), ()))
        }
    });
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let body = StreamBody::new(messages).boxed_unsync();
    let mut call =
        call(Protocol::Http2, target, service, "/test.Test/Echo", &headers, body).await?;
    // An answer without messages may have it in its head.
    let (mut bytes, mut status) = (0, call.answer.headers().get("grpc-status").cloned());
    let reason = call.answer.headers().get("grpc-message").cloned();
    while let Some(frame) = timeout(PATIENCE, call.answer.body_mut().frame()).await.transpose() {
        let frame = frame.map_err(|_| format!("nothing came after {bytes} bytes"))?;
        let frame = frame.map_err(|error| format!("after {bytes} bytes: {error}"))?;
        match frame.into_data() {
            Ok(data) => bytes += data.len(),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                status = trailers.get("grpc-status").cloned();
            }
        }
    }
    let sent = sent.load(Ordering::Relaxed);
    if status.as_ref().is_none_or(|status| status != "0") {
        return Err(format!("status {status:?}, {reason:?}, after {bytes} bytes"));
    }
    let came = (bytes / MESSAGE.len()) as u64;
    if came == sent { Ok(came) } else { Err(format!("{came} messages came of {sent}")) }
}

async fn websocket(target: SocketAddr, host: &str, stopping: &AtomicBool) -> Result<u64, String> {
    let failed = |error: io::Error| error.to_string();
    let mut stream = TcpStream::connect(target).await.map_err(failed)?;
    let ask = format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).await.map_err(failed)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.map_err(failed)?);
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(String::from_utf8_lossy(&head).into_owned());
    }
    let mut echoes = 0;
    while !stopping.load(Ordering::Acquire) {
        stream.write_all(MESSAGE).await.map_err(failed)?;
        let mut echo = [0; MESSAGE.len()];
        let read = timeout(PATIENCE, stream.read_exact(&mut echo)).await;
        let read = read.map_err(|_| format!("nothing came after {echoes} echoes"))?;
        read.map_err(|error| format!("after {echoes} echoes: {error}"))?;
        if echo != MESSAGE {
            return Err(format!("{echo:?} is no echo"));
        }
        echoes += 1;
        sleep(PAUSE).await;
    }
    Ok(echoes)
}
