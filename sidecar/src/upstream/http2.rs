//! HTTP/2 to an upstream: many requests share one connection.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::{future::Future, time::Duration};

use bytes::Bytes;
use h2::Reason;
use h2::client::{Builder, SendRequest};
use http::{Request, Response};
use http_body::Frame;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use super::connect::{ConnectError, OpenConnection};
use crate::body::{BodyError, Pump, PumpError, ReceivedBody, RequestBody};

const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const SEND_BUFFER_BYTES: usize = 256 * 1024;
const HEADER_LIST_BYTES: u32 = 60 * 1024;
/// Streams before the peer's settings are known.
const FIRST_STREAMS: usize = 100;
/// Streams on one connection however many the peer allows; beyond, a second one is opened.
const MOST_STREAMS: usize = 256;

/// One connection, shared by requests.
pub struct Http2Connection {
    sender: SendRequest<Bytes>,
    streams: Cell<usize>,
    closed: Rc<Cell<bool>>,
    used: Cell<Instant>,
    /// When it is too old for another request.
    aged: Instant,
    /// Whether that moment has passed.
    retires: Cell<bool>,
}

/// A request without an answer.
pub struct Http2Failure {
    /// Given back where the upstream did certainly not see it.
    pub unsent: Option<Request<RequestBody>>,
    /// Whether the upstream says that it did not work on the request.
    pub unprocessed: bool,
    /// Whether the caller's body was at fault.
    pub callers_fault: bool,
    /// Whether the connection was closed, rather than the stream answered wrongly.
    pub closed: bool,
}

/// An answer's body. Carries on with the request's body where that is still coming.
pub struct Http2Body {
    body: ReceivedBody,
    upload: Option<Pump<RequestBody>>,
    _lease: Lease,
}

/// A stream's place on its connection.
struct Lease(Rc<Http2Connection>);

impl Http2Connection {
    /// Speaks HTTP/2 over a new connection; a task of the worker drives it to its end.
    pub async fn begin(
        stream: TcpStream,
        open: OpenConnection,
        timeout: Duration,
        aged: Instant,
    ) -> Result<Rc<Self>, ConnectError> {
        let mut builder = Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES)
            .initial_max_send_streams(FIRST_STREAMS)
            .enable_push(false);
        let (sender, driver) = tokio::time::timeout(timeout, builder.handshake(stream))
            .await
            .map_err(|_| ConnectError::Timeout(timeout))??;
        let closed = Rc::new(Cell::new(false));
        let at_end = Rc::clone(&closed);
        // Owned by the connection: ends when the last reference to the sender is gone.
        tokio::task::spawn_local(async move {
            if let Err(error) = driver.await {
                debug!(%error, "HTTP/2 connection to an upstream ended");
            }
            at_end.set(true);
            drop(open);
        });
        let used = Cell::new(Instant::now());
        let (streams, retires) = (Cell::new(0), Cell::new(false));
        Ok(Rc::new(Self { sender, streams, closed, used, aged, retires }))
    }

    /// Whether one more request fits.
    pub fn has_room(&self) -> bool {
        let most = self.sender.current_max_send_streams().min(MOST_STREAMS);
        !self.closed.get() && !self.retires.get() && self.streams.get() < most
    }

    /// Whether it can never be used again.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Takes no new requests from here on where it is too old; whether none run on it any more.
    pub fn ages(&self, now: Instant) -> bool {
        self.retires.set(self.retires.get() || now >= self.aged);
        self.retires.get() && self.streams.get() == 0
    }

    /// Whether nothing ran on it since `moment`.
    pub fn idle_since(&self, moment: Instant) -> bool {
        self.streams.get() == 0 && self.used.get() <= moment
    }

    /// Sends a request and waits for the head of the answer.
    pub async fn send(
        self: Rc<Self>,
        request: Request<RequestBody>,
    ) -> Result<Response<Http2Body>, Http2Failure> {
        let lease = Lease::on(&self);
        let mut sender = self.sender.clone();
        if poll_fn(|context| sender.poll_ready(context)).await.is_err() {
            self.closed.set(true);
            return Err(Http2Failure {
                unsent: Some(request),
                unprocessed: true,
                callers_fault: false,
                closed: true,
            });
        }
        let (parts, body) = request.into_parts();
        let ends = body.is_empty();
        let sent = sender.send_request(Request::from_parts(parts, ()), ends);
        let (mut answer, stream) = sent.map_err(|error| self.failure(&error))?;
        let mut upload = (!ends).then(|| Pump::new(body, stream));
        let mut callers_fault = false;
        let answered = poll_fn(|context| {
            if let Some(running) = &mut upload
                && let Poll::Ready(moved) = running.poll(context)
            {
                callers_fault = matches!(moved, Err(PumpError::Body(_)));
                upload = None;
            }
            Pin::new(&mut answer).poll(context)
        })
        .await;
        match answered {
            Ok(response) => Ok(response.map(|stream| Http2Body {
                body: ReceivedBody::new(stream),
                upload,
                _lease: lease,
            })),
            Err(error) => Err(Http2Failure { callers_fault, ..self.failure(&error) }),
        }
    }

    fn failure(&self, error: &h2::Error) -> Http2Failure {
        let refused = error.reason() == Some(Reason::REFUSED_STREAM);
        let gone = error.is_go_away() && error.is_remote();
        let closed = gone || error.is_io();
        if closed {
            self.closed.set(true);
        }
        Http2Failure {
            unsent: None,
            unprocessed: refused || (gone && error.reason() == Some(Reason::NO_ERROR)),
            callers_fault: false,
            closed,
        }
    }
}

impl Http2Body {
    /// The next chunk, then the trailers.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.carry_on(context);
        self.body.poll_next(context)
    }

    /// Sends what the upstream takes of the rest of the request.
    pub fn carry_on(&mut self, context: &mut Context<'_>) {
        if let Some(upload) = &mut self.upload
            && upload.poll(context).is_ready()
        {
            self.upload = None;
        }
    }

    /// Whether all of it was taken.
    pub fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

impl Lease {
    fn on(connection: &Rc<Http2Connection>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self(Rc::clone(connection))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        if self.0.streams.get() == 0 {
            self.0.used.set(Instant::now());
        }
    }
}
