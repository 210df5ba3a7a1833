//! An answer on a stream of HTTP/2.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use http::header::CONNECTION;
use http::{Response, StatusCode};
use http_body::Body as _;
use segue_sidecar_core::http2::Reason;
use tokio::time::Instant;
use tracing::debug;

use super::body::ResponseBody;
use crate::body::{BodyError, Pump, PumpError};
use crate::deadline::Deadline;
use crate::http2::Sender;
use crate::worker::Worker;

/// How long an answer may wait for the caller to open its window.
const SEND_BLOCKED_TIME: Duration = Duration::from_secs(30);

/// `None` where the caller cancelled the stream first: dropping the future gives up what it does,
/// upstream as well.
pub async fn unless_reset<F: Future>(
    respond: &mut Sender,
    mut future: Pin<&mut F>,
) -> Option<F::Output> {
    poll_fn(|context| {
        if respond.poll_reset(context).is_ready() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// Whether the caller cancelled the stream.
pub async fn send(
    worker: &Worker,
    response: Response<ResponseBody>,
    mut respond: Sender,
    is_head: bool,
) -> bool {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONNECTION);
    // RFC 9110 section 6.4.1: these have no content, whatever our own answer would say.
    let is_bare = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let ends = is_head || is_bare || body.is_end_stream();
    if respond.send_response(parts.status, &parts.headers, ends).is_err() {
        return true;
    }
    drop(parts);
    if ends {
        return false;
    }
    match pump(worker, Pump::new(body, respond)).await {
        Ok(()) => false,
        Err(PumpError::Closed) => true,
        Err(PumpError::Body(error)) => {
            debug!(%error, "an answer broke off");
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
    use std::rc::Rc;
    use std::sync::Arc;

    use bytes::Bytes;
    use http::Request;
    use tokio::task::{LocalSet, spawn_local};

    use super::*;
    use crate::http::ResponseSource;
    use crate::http2::{Limits, ServerConnection};
    use crate::outcome::Counters;
    use crate::snapshot_handle::SnapshotHandle;
    use crate::tls::Mesh;
    use crate::vitals::Vitals;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_the_caller_does_not_take_is_given_up() {
        let counters = Arc::new(Counters::new(1));
        let worker = Worker::new(
            0,
            &SnapshotHandle::new(),
            &counters,
            &Arc::new(Vitals::new(1)),
            Mesh::default(),
            None,
        );
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
            let mut connection = ServerConnection::new(ours, Limits::default());
            let (_, respond) = poll_fn(|context| {
                let received = connection.poll_receive(context);
                let _ = connection.poll_flush(context);
                match connection.next_request() {
                    Some(request) => Poll::Ready(request),
                    None => received.map(|_| unreachable!()),
                }
            })
            .await;
            spawn_local(poll_fn(move |context| {
                let _ = connection.poll_receive(context);
                connection.drive(context, |connection, context| {
                    let _ = connection.poll_flush(context);
                });
                Poll::<()>::Pending
            }));
            let body = ResponseSource::Whole(Some(vec![7; 1000].into()));
            let begun = Instant::now();
            let response = Response::new(ResponseBody::of(body));
            assert!(!send(&worker, response, respond, false).await);
            let waited = begun.elapsed();
            assert!((SEND_BLOCKED_TIME..SEND_BLOCKED_TIME * 2).contains(&waited), "{waited:?}");
            assert_eq!(caller.await.unwrap(), (10, Some(h2::Reason::CANCEL)));
            assert_eq!(counters.refusals()["send_blocked"], 1);
        };
        LocalSet::new().run_until(serving).await;
    }
}
