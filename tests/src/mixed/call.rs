//! One call with a body that streams, on a connection of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::header::HOST;
use http::{Method, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::load::Protocol;

/// A body of a request.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer whose connection is cut when this is dropped.
pub(super) struct Call {
    pub answer: Response<Incoming>,
    driver: JoinHandle<()>,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

pub(super) fn empty() -> Body {
    Empty::new().boxed_unsync()
}

/// So many pieces, one each interval.
pub(super) fn pieces(count: usize, interval: Duration, piece: fn(usize) -> Bytes) -> Body {
    StreamBody::new(paced(count, interval, piece)).boxed_unsync()
}

fn paced(
    count: usize,
    interval: Duration,
    piece: fn(usize) -> Bytes,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static {
    futures_util::stream::iter(0..count).then(move |number| async move {
        if number > 0 {
            tokio::time::sleep(interval).await;
        }
        Ok(Frame::data(piece(number)))
    })
}

/// Connects, sends, and waits for the head of the answer, which must be 200.
pub(super) async fn call(
    protocol: Protocol,
    target: SocketAddr,
    authority: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Body,
) -> Result<Call, String> {
    let stream = TcpStream::connect(target).await.map_err(|error| format!("connect: {error}"))?;
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(stream);
    let method = if body.is_end_stream() { Method::GET } else { Method::POST };
    let mut request = Request::builder().method(method);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let broken = |error: &dyn std::error::Error| chain(error);
    let (answer, driver) = match protocol {
        Protocol::Http1 => {
            let (mut sender, connection) =
                http1::handshake(io).await.map_err(|error| broken(&error))?;
            let driver = tokio::spawn(async move { drop(connection.await) });
            let request = request.uri(path).header(HOST, authority).body(body);
            let request = request.map_err(|error| broken(&error))?;
            (sender.send_request(request).await, driver)
        }
        Protocol::Http2 => {
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), io).await.map_err(|error| broken(&error))?;
            let driver = tokio::spawn(async move { drop(connection.await) });
            let uri: Uri =
                format!("http://{authority}{path}").parse().map_err(|error| broken(&error))?;
            let request = request.uri(uri).body(body).map_err(|error| broken(&error))?;
            (sender.send_request(request).await, driver)
        }
    };
    let answer = answer.map_err(|error| format!("no answer: {}", broken(&error)))?;
    let call = Call { answer, driver };
    match call.answer.status().as_u16() {
        200 => Ok(call),
        status => Err(format!("status {status}")),
    }
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
