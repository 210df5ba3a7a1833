//! WebSocket on a stream of HTTP/2 (RFC 8441): for everything between, a `GET` that asks for a
//! switch, as over HTTP/1.1.

use std::future::poll_fn;
use std::pin::pin;

use http::header::HeaderValue;
use http::{Method, Request, Response, StatusCode};
use segue_sidecar_core::http2::Protocol;
use tracing::debug;

use super::answer_http2::{send, unless_reset};
use super::body::ResponseBody;
use super::caller::Caller;
use super::pipeline;
use super::respond::Reject;
use crate::body::{RequestBody, StreamEnd};
use crate::http1::{AnswerBody as _, Tunnel};
use crate::http2::{Receiver, Sender};
use crate::websocket::{self, AsksForWebSocket};
use crate::worker::Worker;

/// Serves a `CONNECT`; whether the caller cancelled the stream.
pub async fn serve(
    worker: &Worker,
    caller: &Caller,
    request: Request<Option<Receiver>>,
    mut respond: Sender,
) -> bool {
    let (mut parts, receive) = request.into_parts();
    let protocol = parts.extensions.remove::<Protocol>();
    let asks = protocol.is_some_and(|it| it.0.eq_ignore_ascii_case(b"websocket"));
    // The key is what an upstream proves by, whatever it speaks.
    let accept = asks.then(|| websocket::add_key(&mut parts.headers)).flatten();
    let Some(accept) = accept else {
        // As it is, it is refused for its method.
        let request = Request::from_parts(parts, RequestBody::Empty);
        let response = pipeline::serve(worker, caller, request).await;
        return send(worker, response, respond, false).await;
    };
    parts.method = Method::GET;
    parts.extensions.insert(AsksForWebSocket);
    let request = Request::from_parts(parts, RequestBody::Empty);
    // Nothing that came behind the head is read before an upstream agrees.
    let serving = pin!(pipeline::serve(worker, caller, request));
    match unless_reset(&mut respond, serving).await {
        None => true,
        Some(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            switch(worker, response, &accept, receive, respond).await
        }
        Some(response) => send(worker, response, respond, false).await,
    }
}

/// Agrees, and passes on whatever comes.
async fn switch(
    worker: &Worker,
    mut response: Response<ResponseBody>,
    accept: &HeaderValue,
    receive: Option<Receiver>,
    mut respond: Sender,
) -> bool {
    if !websocket::take_accept(response.headers_mut(), accept) {
        let refused = pipeline::refuse(worker, Reject::UpstreamMalformed, false);
        return send(worker, refused, respond, false).await;
    }
    let (parts, mut body) = response.into_parts();
    let answered = respond.send_response(StatusCode::OK, &parts.headers, false);
    // A stream that has ended before it began is no tunnel.
    let (Ok(()), Some(upstream), Some(receive)) = (answered, body.tunnel(), receive) else {
        return false;
    };
    let mut stream = StreamEnd::new(receive, respond);
    let mut tunnel = Tunnel::of_websocket();
    let moved = poll_fn(|context| tunnel.poll(&mut stream, upstream, context)).await;
    if let Err(error) = moved {
        debug!(%error, "a WebSocket broke off");
    }
    false
}
