//! HTTP/2 with callers. All streams of a connection are futures of one task.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Method, Request};
use segue_sidecar_core::canonical::Trust;
use segue_sidecar_core::flood::ResetRatio;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use super::answer_http2::{send, unless_reset};
use super::caller::Caller;
use super::frame_meter::FrameMeter;
use super::pipeline;
use super::websocket_http2;
use crate::body::RequestBody;
use crate::deadline::Deadline;
use crate::keepalive::KeepAlive;
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
        .enable_connect_protocol()
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
    let keepalive = KeepAlive::begin(connection.ping_pong());
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
        if keepalive.poll_gone(context).is_ready() {
            debug!("an HTTP/2 caller does not answer pings any more");
            worker.counters.refused("keepalive");
            return Poll::Ready(());
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
                    // In a box, because the set moves what it is given three times.
                    streams.push(Box::pin(async move {
                        let cancelled = serve_stream(worker, caller, request, respond).await;
                        drop(running);
                        cancelled.then(|| begun.elapsed())
                    }));
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
    if *request.method() == Method::CONNECT {
        // In a box, because few requests do.
        return Box::pin(websocket_http2::serve(worker, caller, request, respond)).await;
    }
    let request = request.map(RequestBody::http2);
    let is_head = *request.method() == Method::HEAD;
    let served = {
        let serving = pin!(pipeline::serve(worker, caller, request));
        unless_reset(&mut respond, serving).await
    };
    match served {
        Some(response) => send(worker, response, respond, is_head).await,
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<'a, F>(
        _: fn(&'a Worker, &'a Caller, Request<RecvStream>, SendResponse<Bytes>) -> F,
    ) -> usize {
        size_of::<F>()
    }

    /// The future of each stream is moved into its place.
    #[test]
    fn the_future_of_a_stream_stays_small() {
        let size = size_of_future(serve_stream);
        assert!(size <= 4_900, "{size} bytes");
    }
}
