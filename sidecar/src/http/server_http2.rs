//! HTTP/2 with callers. All streams of a connection are futures of one task.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::header::CONNECTION;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use tokio::net::TcpStream;
use tracing::debug;

use super::body::ResponseBody;
use super::pipeline;
use super::request_context::Direction;
use crate::body::{Pump, PumpError, RequestBody};
use crate::listener::{ConnectionWatch, Verdict};
use crate::worker::Worker;

const MAX_STREAMS: u32 = 256;
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const SEND_BUFFER_BYTES: usize = 256 * 1024;
const HEADER_LIST_BYTES: u32 = 60 * 1024;
/// Streams that a caller may open and cancel before we look at them.
const MAX_PENDING_RESETS: usize = 200;
/// Streams that we may have to reset for the caller's errors.
const MAX_LOCAL_RESETS: usize = 256;
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Serves a connection to its end.
pub async fn serve(
    worker: Rc<Worker>,
    direction: Direction,
    stream: TcpStream,
    watch: Rc<ConnectionWatch>,
) {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MAX_LOCAL_RESETS));
    match tokio::time::timeout(HANDSHAKE_TIME, builder.handshake(stream)).await {
        Ok(Ok(connection)) => serve_streams(&worker, direction, connection, &watch).await,
        Ok(Err(error)) => debug!(%error, "HTTP/2 handshake of a caller failed"),
        Err(_) => debug!("HTTP/2 handshake of a caller took too long"),
    }
}

async fn serve_streams(
    worker: &Worker,
    direction: Direction,
    mut connection: Connection<TcpStream, Bytes>,
    watch: &Rc<ConnectionWatch>,
) {
    // From here on idleness is counted by streams.
    drop(watch.begin_request());
    let mut streams = FuturesUnordered::new();
    let mut announced = false;
    poll_fn(|context| {
        match watch.verdict(context) {
            Verdict::Stay => {}
            Verdict::Announce | Verdict::Finish if announced => {}
            Verdict::Announce | Verdict::Finish => {
                announced = true;
                connection.graceful_shutdown();
            }
            Verdict::Close => return Poll::Ready(()),
        }
        loop {
            match connection.poll_accept(context) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let running = watch.begin_request();
                    streams.push(async move {
                        serve_stream(worker, direction, request, respond).await;
                        drop(running);
                    });
                }
                Poll::Ready(Some(Err(error))) => {
                    debug!(%error, "HTTP/2 connection of a caller ended");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        while let Poll::Ready(Some(())) = streams.poll_next_unpin(context) {}
        Poll::Pending
    })
    .await;
}

async fn serve_stream(
    worker: &Worker,
    direction: Direction,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let request = request.map(RequestBody::http2);
    let is_head = *request.method() == Method::HEAD;
    let served = {
        let mut serving = pin!(pipeline::serve(worker, direction, request));
        poll_fn(|context| {
            if respond.poll_reset(context).is_ready() {
                // The caller gave up: dropping the request gives it up upstream too.
                return Poll::Ready(None);
            }
            serving.as_mut().poll(context).map(Some)
        })
        .await
    };
    if let Some(response) = served {
        send(response, respond, is_head).await;
    }
}

async fn send(response: Response<ResponseBody>, mut respond: SendResponse<Bytes>, is_head: bool) {
    let (mut parts, body) = response.into_parts();
    parts.version = Version::HTTP_2;
    parts.headers.remove(CONNECTION);
    // RFC 9110 section 6.4.1: these have no content, whatever our own answer would say.
    let is_bare = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let ends = is_head || is_bare || body.is_end_stream();
    match respond.send_response(Response::from_parts(parts, ()), ends) {
        Ok(_) if ends => {}
        Ok(stream) => {
            let mut pump = Pump::new(body, stream);
            match poll_fn(|context| pump.poll(context)).await {
                Err(PumpError::Body(error)) => debug!(%error, "an answer broke off"),
                Ok(()) | Err(PumpError::Closed) => {}
            }
        }
        Err(error) => {
            debug!(%error, "an answer cannot be sent over HTTP/2");
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}
