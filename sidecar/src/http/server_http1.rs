//! HTTP/1 with callers: the only file that knows which codec speaks it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::header::CONNECTION;
use http::{Request, Response, StatusCode};
use segue_sidecar_core::http1::HeadError;
use tracing::debug;

use super::body::ResponseBody;
use super::caller::Caller;
use super::connect;
use super::pipeline;
use super::respond::Reject;
use crate::body::{BodyError, RequestBody};
use crate::http1::{Next, ReadError, RespondError, ServerConnection};
use crate::listener::{ConnectionWatch, Verdict};
use crate::tls::Socket;
use crate::worker::Worker;

/// Serves a connection to its end. Heads that come too slowly and idle connections are ended by the
/// watch, which costs less than a timer for each request.
pub async fn serve(worker: Rc<Worker>, caller: Caller, socket: Socket, watch: Rc<ConnectionWatch>) {
    let mut connection = ServerConnection::new(socket);
    let mut left = caller.most_requests();
    loop {
        left = left.saturating_sub(1);
        let next = poll_fn(|context| poll_next(&mut connection, &watch, context)).await;
        let running = watch.begin_request();
        let (response, refused) = match next {
            Ok(None) => return connection.end().await,
            Err(error) => {
                debug!(%error, "a request that cannot be read");
                (pipeline::refuse_unread(&worker, &caller, reject(error), false), true)
            }
            Ok(Some(request)) if connect::is_meant(&caller, &request) => {
                return Box::pin(tunnel(&worker, &caller, connection, &request, &watch)).await;
            }
            Ok(Some(request)) => {
                let request = request.map(RequestBody::http1);
                let mut serving = pin!(pipeline::serve(&worker, &caller, request));
                let served = poll_fn(|context| match serving.as_mut().poll(context) {
                    Poll::Ready(response) => Poll::Ready(Some(response)),
                    Poll::Pending if is_cut(&watch, context) => Poll::Ready(None),
                    // Dropping the request gives it up upstream too.
                    Poll::Pending => connection.poll_gone(context).map(|()| None),
                });
                let Some(response) = served.await else { return };
                (response, false)
            }
        };
        let closes = refused || left == 0 || watch.takes_no_more() || worker.closes_connections();
        let responded = respond(&worker, &mut connection, response, closes, &watch).await;
        drop(running);
        match responded {
            Some(true) => {}
            Some(false) => return connection.close().await,
            None => return,
        }
    }
}

/// Serves the last request of a connection, to the end of the tunnel that it opens. Bytes that the
/// caller sent behind it go through once there is one, and nowhere where there is none.
async fn tunnel<B>(
    worker: &Worker,
    caller: &Caller,
    mut connection: ServerConnection,
    request: &Request<B>,
    watch: &ConnectionWatch,
) {
    let Some(opened) = uncut(connect::open(worker, request), watch).await else { return };
    let mut passage = match opened {
        Ok(passage) => passage,
        Err(reject) => {
            let response = pipeline::refuse_unread(worker, caller, reject, false);
            if respond(worker, &mut connection, response, true, watch).await.is_some() {
                connection.close().await;
            }
            return;
        }
    };
    let (upstream, tunnel) = passage.parts();
    if let Some(Err(error)) = uncut(connection.pass_through(upstream, tunnel), watch).await {
        debug!(%error, "a tunnel broke off");
    }
}

/// Sends an answer; whether the connection may serve another request. `None`: it is not even to be
/// closed with care.
async fn respond(
    worker: &Worker,
    connection: &mut ServerConnection,
    response: Response<ResponseBody>,
    closes: bool,
    watch: &ConnectionWatch,
) -> Option<bool> {
    let closes = closes || response.headers().contains_key(CONNECTION);
    let sent = uncut(connection.respond(response, closes), watch).await?;
    let error = match sent {
        Ok(keeps) => return Some(keeps),
        Err(error) => error,
    };
    debug!(%error, "HTTP/1 answer");
    let RespondError::Unsent(error) = error else { return None };
    let reject = match error {
        BodyError::Timeout | BodyError::Idle => Reject::Timeout,
        BodyError::Slow => Reject::SlowBody,
        BodyError::Http1(ReadError::Upload(_)) => Reject::BadBody,
        BodyError::Http1(_) | BodyError::Http2(_) => Reject::UpstreamMalformed,
    };
    let instead = pipeline::refuse(worker, reject, false);
    uncut(connection.respond(instead, true), watch).await?.ok()
}

/// `None` where the connection was cut first.
async fn uncut<F: Future>(future: F, watch: &ConnectionWatch) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Pending if is_cut(watch, context) => Poll::Ready(None),
        polled => polled.map(Some),
    })
    .await
}

/// The next request, unless the connection shall take none.
fn poll_next(
    connection: &mut ServerConnection,
    watch: &ConnectionWatch,
    context: &mut Context<'_>,
) -> Poll<Next> {
    let next = connection.poll_next(context, || watch.bytes_came());
    if next.is_pending() {
        match watch.verdict(context) {
            Verdict::Stay | Verdict::Announce => {}
            // A request that is on its way is still answered.
            Verdict::Finish if !connection.is_idle() => {}
            Verdict::Finish | Verdict::Close => return Poll::Ready(Ok(None)),
        }
    }
    next
}

fn is_cut(watch: &ConnectionWatch, context: &Context<'_>) -> bool {
    watch.verdict(context) == Verdict::Close
}

fn reject(error: HeadError) -> Reject {
    match error {
        HeadError::Malformed(what) => Reject::BadRequest(what),
        HeadError::TargetTooLong => Reject::TooLong(StatusCode::URI_TOO_LONG),
        HeadError::TooLong => Reject::TooLong(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
    }
}
