//! HTTP/2 with callers. All streams of a connection are futures of one task.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{Method, Request};
use segue_sidecar_core::canonical::Trust;
use segue_sidecar_core::flood::ResetRatio;
use segue_sidecar_core::http2::Reason;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::answer_http2::{send, unless_reset};
use super::caller::Caller;
use super::pipeline;
use super::websocket_http2;
use crate::body::RequestBody;
use crate::http2::{ConnectionError, Limits, Receiver, Sender, ServerConnection};
use crate::keepalive::KeepAlive;
use crate::listener::{ConnectionWatch, Verdict};
use crate::tls::Socket;
use crate::worker::Worker;

/// Streams at one time: of a proxy of ours or of the application, and of anybody else.
const MAX_STREAMS_OF_OURS: u32 = 256;
const MAX_STREAMS: u32 = 100;
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long a caller may take to hear why it is closed.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// How a connection ended.
enum End {
    /// The caller has gone, or is not waited for.
    Gone,
    /// The caller is to hear what was said last.
    Said,
}

/// Serves a connection to its end.
pub async fn serve(worker: Rc<Worker>, caller: Caller, socket: Socket, watch: Rc<ConnectionWatch>) {
    let streams = match caller.peer.trust() {
        Trust::Proxy | Trust::Application => MAX_STREAMS_OF_OURS,
        Trust::Edge => MAX_STREAMS,
    };
    let mut connection = ServerConnection::new(socket, Limits { streams, ..Limits::default() });
    let end = match timeout(HANDSHAKE_TIME, begin(&mut connection)).await {
        Ok(Ok(())) => serve_streams(&worker, &caller, &mut connection, &watch).await,
        Ok(Err(error)) => ended(&worker, &error),
        Err(_) => {
            debug!("HTTP/2 handshake of a caller took too long");
            End::Gone
        }
    };
    if matches!(end, End::Said) {
        // Whether it heard or not, it is closed now.
        let _ = timeout(CLOSING_TIME, poll_fn(|context| connection.poll_close(context))).await;
    }
}

/// Waits for the first settings of the caller, or its end.
async fn begin(connection: &mut ServerConnection<Socket>) -> Result<(), ConnectionError> {
    poll_fn(|context| {
        connection.drive(context, |connection, context| {
            let received = connection.poll_receive(context);
            let _ = connection.poll_flush(context)?;
            if connection.has_begun() { Poll::Ready(Ok(())) } else { received }
        })
    })
    .await
}

fn ended(worker: &Worker, error: &ConnectionError) -> End {
    debug!(%error, "HTTP/2 connection of a caller ended");
    match error {
        ConnectionError::Io(_) => End::Gone,
        ConnectionError::Violated(reason) => {
            if *reason == Reason::ENHANCE_YOUR_CALM {
                worker.counters.refused("http2_flood");
            }
            End::Said
        }
    }
}

async fn serve_streams(
    worker: &Worker,
    caller: &Caller,
    connection: &mut ServerConnection<Socket>,
    watch: &Rc<ConnectionWatch>,
) -> End {
    // From here on idleness is counted by streams.
    drop(watch.begin_request());
    let mut streams = FuturesUnordered::new();
    let mut left = caller.most_requests();
    let mut ratio = ResetRatio::default();
    let keepalive = KeepAlive::begin(connection.pinger());
    let mut turn = |connection: &mut ServerConnection<Socket>, context: &mut Context<'_>| {
        match watch.verdict(context) {
            Verdict::Stay => {}
            Verdict::Announce | Verdict::Finish => connection.announce_end(),
            Verdict::Close => return Poll::Ready(End::Gone),
        }
        if keepalive.poll_gone(context).is_ready() {
            debug!("an HTTP/2 caller does not answer pings any more");
            worker.counters.refused("keepalive");
            return Poll::Ready(End::Gone);
        }
        let received = connection.poll_receive(context);
        let mut attack = connection.is_flooded().then_some("http2_flood");
        for _ in 0..connection.take_unseen_resets() {
            ratio.opened();
            if ratio.cancelled(Duration::ZERO) {
                attack = Some("http2_resets");
            }
        }
        while let Some((request, respond)) = connection.next_request() {
            ratio.opened();
            left = left.saturating_sub(1);
            if left == 0 || worker.closes_connections() {
                connection.announce_end();
            }
            let running = watch.begin_request();
            let begun = Instant::now();
            // In a box, because the set moves what it is given three times.
            streams.push(Box::pin(async move {
                let cancelled = serve_stream(worker, caller, request, respond).await;
                drop(running);
                cancelled.then(|| begun.elapsed())
            }));
        }
        while let Poll::Ready(Some(cancelled)) = streams.poll_next_unpin(context) {
            if cancelled.is_some_and(|age| ratio.cancelled(age)) {
                attack = Some("http2_resets");
            }
        }
        if let Some(reason) = attack {
            debug!(reason, "an HTTP/2 connection of a caller is closed");
            worker.counters.refused(reason);
            connection.end(Reason::ENHANCE_YOUR_CALM);
            return Poll::Ready(End::Said);
        }
        let flushed = connection.poll_flush(context);
        match received {
            Poll::Ready(Ok(())) => return Poll::Ready(End::Gone),
            Poll::Ready(Err(error)) => return Poll::Ready(ended(worker, &error)),
            Poll::Pending => {}
        }
        if let Poll::Ready(Err(error)) = flushed {
            return Poll::Ready(ended(worker, &error.into()));
        }
        if connection.is_over() { Poll::Ready(End::Said) } else { Poll::Pending }
    };
    let end = poll_fn(|context| connection.drive(context, &mut turn)).await;
    // What runs is given up at once, upstream as well.
    connection.fail();
    end
}

/// Whether the caller cancelled the stream.
async fn serve_stream(
    worker: &Worker,
    caller: &Caller,
    request: Request<Option<Receiver>>,
    mut respond: Sender,
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
        _: fn(&'a Worker, &'a Caller, Request<Option<Receiver>>, Sender) -> F,
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
