//! HTTP/2 with callers. All streams of a connection are futures of one task.

use std::cell::Cell;
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
use segue_sidecar_core::canonical::Trust;
use segue_sidecar_core::flood::ResetRatio;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use super::body::ResponseBody;
use super::caller::Caller;
use super::frame_meter::FrameMeter;
use super::pipeline;
use crate::body::{BodyError, Pump, PumpError, RequestBody};
use crate::deadline::Deadline;
use crate::listener::{ConnectionWatch, Verdict};
use crate::worker::Worker;

/// Streams at one time: of a proxy of ours or of the application, and of anybody else.
const MAX_STREAMS_OF_OURS: u32 = 256;
const MAX_STREAMS: u32 = 100;
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const SEND_BUFFER_BYTES: usize = 256 * 1024;
const HEADER_LIST_BYTES: u32 = 60 * 1024;
/// Streams that a caller may open and cancel before we look at them.
const MAX_PENDING_RESETS: usize = 200;
/// Streams that we may have to reset for the caller's errors.
const MAX_LOCAL_RESETS: usize = 256;
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long an answer may wait for the caller to open its window.
const SEND_BLOCKED_TIME: Duration = Duration::from_secs(30);
/// How long a caller that attacks may take to hear why it is closed.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// Serves a connection to its end.
pub async fn serve(
    worker: Rc<Worker>,
    caller: Caller,
    stream: TcpStream,
    watch: Rc<ConnectionWatch>,
) {
    let streams = match caller.peer.trust() {
        Trust::Proxy | Trust::Application => MAX_STREAMS_OF_OURS,
        Trust::Edge => MAX_STREAMS,
    };
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(streams)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MAX_LOCAL_RESETS));
    let flooded = Rc::new(Cell::new(false));
    let stream = FrameMeter::new(stream, Rc::clone(&flooded));
    match tokio::time::timeout(HANDSHAKE_TIME, builder.handshake(stream)).await {
        Ok(Ok(connection)) => serve_streams(&worker, &caller, connection, &watch, &flooded).await,
        Ok(Err(error)) => debug!(%error, "HTTP/2 handshake of a caller failed"),
        Err(_) => debug!("HTTP/2 handshake of a caller took too long"),
    }
}

async fn serve_streams(
    worker: &Worker,
    caller: &Caller,
    mut connection: Connection<FrameMeter, Bytes>,
    watch: &Rc<ConnectionWatch>,
    flooded: &Cell<bool>,
) {
    // From here on idleness is counted by streams.
    drop(watch.begin_request());
    let mut streams = FuturesUnordered::new();
    let mut announced = false;
    let mut left = caller.most_requests();
    let mut ratio = ResetRatio::default();
    let mut closing: Option<Deadline> = None;
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
        let mut attack = (closing.is_none() && flooded.get()).then_some("http2_flood");
        loop {
            if let Some(reason) = attack.take() {
                debug!(reason, "an HTTP/2 connection of a caller is closed");
                worker.counters.refused(reason);
                closing = Some(worker.deadlines.at(Instant::now().checked_add(CLOSING_TIME)));
                // What runs is given up at once, upstream as well.
                streams.clear();
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            }
            match connection.poll_accept(context) {
                Poll::Ready(Some(Ok(_))) if closing.is_some() => continue,
                Poll::Ready(Some(Ok((request, respond)))) => {
                    ratio.opened();
                    left = left.saturating_sub(1);
                    let last = left == 0 || worker.closes_connections();
                    if last && !std::mem::replace(&mut announced, true) {
                        connection.graceful_shutdown();
                    }
                    let running = watch.begin_request();
                    let begun = Instant::now();
                    streams.push(async move {
                        let cancelled = serve_stream(worker, caller, request, respond).await;
                        drop(running);
                        cancelled.then(|| begun.elapsed())
                    });
                    continue;
                }
                Poll::Ready(Some(Err(error))) => {
                    debug!(%error, "HTTP/2 connection of a caller ended");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            while let Poll::Ready(Some(cancelled)) = streams.poll_next_unpin(context) {
                if cancelled.is_some_and(|age| ratio.cancelled(age)) && closing.is_none() {
                    attack = Some("http2_resets");
                }
            }
            if attack.is_none() {
                break;
            }
        }
        closing.as_mut().map_or(Poll::Pending, |late| late.poll(context))
    })
    .await;
}

/// Whether the caller cancelled the stream.
async fn serve_stream(
    worker: &Worker,
    caller: &Caller,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> bool {
    let request = request.map(RequestBody::http2);
    let is_head = *request.method() == Method::HEAD;
    let served = {
        let mut serving = pin!(pipeline::serve(worker, caller, request));
        poll_fn(|context| {
            if respond.poll_reset(context).is_ready() {
                // The caller gave up: dropping the request gives it up upstream too.
                return Poll::Ready(None);
            }
            serving.as_mut().poll(context).map(Some)
        })
        .await
    };
    match served {
        Some(response) => send(worker, response, respond, is_head).await,
        None => true,
    }
}

/// Whether the caller cancelled the stream.
async fn send(
    worker: &Worker,
    response: Response<ResponseBody>,
    mut respond: SendResponse<Bytes>,
    is_head: bool,
) -> bool {
    let (mut parts, body) = response.into_parts();
    parts.version = Version::HTTP_2;
    parts.headers.remove(CONNECTION);
    // RFC 9110 section 6.4.1: these have no content, whatever our own answer would say.
    let is_bare = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let ends = is_head || is_bare || body.is_end_stream();
    match respond.send_response(Response::from_parts(parts, ()), ends) {
        Ok(_) if ends => false,
        Ok(stream) => match pump(worker, Pump::new(body, stream)).await {
            Ok(()) => false,
            Err(PumpError::Closed) => true,
            Err(PumpError::Body(error)) => {
                debug!(%error, "an answer broke off");
                false
            }
        },
        Err(error) => {
            debug!(%error, "an answer cannot be sent over HTTP/2");
            respond.send_reset(Reason::INTERNAL_ERROR);
            false
        }
    }
}

/// Moves an answer's body to its end, unless the caller takes nothing of it for too long.
async fn pump(worker: &Worker, mut pump: Pump<ResponseBody>) -> Result<(), PumpError<BodyError>> {
    let mut blocked: Option<(u64, Deadline)> = None;
    poll_fn(|context| {
        if let Poll::Ready(moved) = pump.poll(context) {
            return Poll::Ready(moved);
        }
        let Some(at) = pump.blocked_at() else {
            blocked = None;
            return Poll::Pending;
        };
        if blocked.as_ref().is_none_or(|(before, _)| *before != at) {
            let late = Instant::now().checked_add(SEND_BLOCKED_TIME);
            blocked = Some((at, worker.deadlines.at(late)));
        }
        if blocked.as_mut().is_some_and(|(_, late)| late.poll(context).is_ready()) {
            worker.counters.refused("send_blocked");
            pump.reset(Reason::CANCEL);
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;
    use crate::http::ResponseSource;
    use crate::outcome::Counters;
    use crate::snapshot_handle::SnapshotHandle;
    use crate::vitals::Vitals;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_the_caller_does_not_take_is_given_up() {
        let counters = Arc::new(Counters::new(1));
        let worker =
            Worker::new(0, &SnapshotHandle::new(), &counters, &Arc::new(Vitals::new(1)), None);
        let deadlines = Rc::clone(&worker.deadlines);
        let serving = async {
            spawn_local(async move { deadlines.run().await });
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let caller = spawn_local(async move {
                let mut builder = h2::client::Builder::new();
                builder.initial_window_size(10);
                let handshake = builder.handshake::<_, Bytes>(theirs);
                let (mut sender, driver) = handshake.await.unwrap();
                spawn_local(driver);
                let (answer, _) = sender.send_request(Request::new(()), true).unwrap();
                let mut body = answer.await.unwrap().into_body();
                let first = body.data().await.unwrap().unwrap();
                (first.len(), body.data().await.unwrap().unwrap_err().reason())
            });
            let mut connection = h2::server::handshake(ours).await.unwrap();
            let (_, respond) = connection.accept().await.unwrap().unwrap();
            spawn_local(async move { while connection.accept().await.is_some() {} });
            let body = ResponseSource::Whole(Some(vec![7; 1000].into()));
            let begun = Instant::now();
            let response = Response::new(ResponseBody::of(body));
            assert!(!send(&worker, response, respond, false).await);
            let waited = begun.elapsed();
            assert!((SEND_BLOCKED_TIME..SEND_BLOCKED_TIME * 2).contains(&waited), "{waited:?}");
            assert_eq!(caller.await.unwrap(), (10, Some(Reason::CANCEL)));
            assert_eq!(counters.refusals()["send_blocked"], 1);
        };
        LocalSet::new().run_until(serving).await;
    }
}
