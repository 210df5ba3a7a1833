//! HTTP/1 with callers: the only file that knows which codec speaks it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::Request;
use http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use tokio::net::TcpStream;
use tracing::debug;

use super::caller::Caller;
use super::pipeline;
use crate::body::RequestBody;
use crate::listener::{ConnectionWatch, Verdict};
use crate::wire::Wire;
use crate::worker::Worker;

/// Largest head, and largest piece of a body in memory.
const MAX_BUFFER_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;

/// Serves a connection to its end. Heads that come too slowly and idle connections are ended by the
/// watch, which costs less than a timer for each request.
pub async fn serve(
    worker: Rc<Worker>,
    caller: Caller,
    stream: TcpStream,
    watch: Rc<ConnectionWatch>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let running = watch.begin_request();
        let (worker, caller) = (&*worker, &caller);
        async move {
            let request = request.map(RequestBody::http1);
            let mut response = pipeline::serve(worker, caller, request).await;
            if worker.is_draining() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response.body_mut().hold(running);
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = Builder::new();
    builder
        .max_buf_size(MAX_BUFFER_BYTES)
        .max_headers(MAX_HEADERS)
        .header_read_timeout(None)
        .auto_date_header(false);
    let io = Wire::watched(stream, Rc::clone(&watch));
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut finishing = false;
    let ended = poll_fn(|context| {
        match watch.verdict(context) {
            Verdict::Stay | Verdict::Announce => {}
            Verdict::Finish if finishing => {}
            Verdict::Finish => {
                finishing = true;
                connection.as_mut().graceful_shutdown();
            }
            Verdict::Close => return Poll::Ready(Ok(())),
        }
        connection.as_mut().poll(context)
    })
    .await;
    if let Err(error) = ended {
        debug!(%error, "HTTP/1 connection of a caller ended");
    }
}
