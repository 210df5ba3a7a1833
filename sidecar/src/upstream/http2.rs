//! HTTP/2 to an upstream: many requests share one connection.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::SEC_WEBSOCKET_ACCEPT;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use segue_sidecar_core::http2::Protocol;
use tokio::time::Instant;
use tracing::debug;

use super::connect::OpenConnection;
use crate::body::{BodyError, Pump, PumpError, ReceivedBody, RequestBody, StreamEnd};
use crate::http1::TunnelEnd;
use crate::http2::{Limits, Requests, StreamError, begin_client};
use crate::keepalive::KeepAlive;
use crate::tls::Socket;
use crate::websocket::{self, AsksForWebSocket};

/// Streams on one connection however many the peer allows; beyond, a second one is opened.
const MOST_STREAMS: usize = 256;

/// Longest wait for the first settings of an upstream, from the beginning of a connection, and
/// between looks at them.
const SETTINGS_TIME: Duration = Duration::from_millis(500);
const SETTINGS_LOOK: Duration = Duration::from_millis(2);

/// One connection, shared by requests.
pub struct Http2Connection {
    requests: Requests,
    streams: Cell<usize>,
    closed: Rc<Cell<bool>>,
    used: Cell<Instant>,
    begun: Instant,
    /// When it is too old for another request.
    aged: Instant,
    /// Whether that moment has passed.
    retires: Cell<bool>,
}

/// A request without an answer.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub struct Http2Failure {
    /// Whether the request is as it was: the upstream did certainly not see it.
    pub unsent: bool,
    /// Whether the upstream says that it did not work on the request.
    pub unprocessed: bool,
    /// Whether the caller's body was at fault.
    pub callers_fault: bool,
    /// Whether the connection was closed, rather than the stream answered wrongly.
    pub closed: bool,
    /// Whether a WebSocket was asked for and the upstream knows none over HTTP/2.
    pub no_websocket: bool,
}

/// An answer's body. Carries on with the request's body where that is still coming.
pub struct Http2Body {
    came: Came,
    _lease: Lease,
}

enum Came {
    Answer {
        body: ReceivedBody,
        upload: Option<Pump<RequestBody>>,
    },
    /// The stream has become a tunnel.
    Tunnel(Box<StreamEnd>),
}

/// A stream's place on its connection.
struct Lease(Rc<Http2Connection>);

impl Http2Connection {
    /// Speaks HTTP/2 over a new connection; a task of the worker drives it to its end.
    pub fn begin(socket: Socket, open: OpenConnection, aged: Instant) -> Rc<Self> {
        let (requests, mut driver) = begin_client(socket, Limits::default());
        let closed = Rc::new(Cell::new(false));
        let at_end = Rc::clone(&closed);
        let keepalive = KeepAlive::begin(driver.pinger());
        // Owned by the connection: ends when nobody can open streams any more.
        tokio::task::spawn_local(async move {
            poll_fn(|context| {
                if let Poll::Ready(ended) = driver.poll(context) {
                    if let Err(error) = ended {
                        debug!(%error, "HTTP/2 connection to an upstream ended");
                    }
                    return Poll::Ready(());
                }
                if keepalive.poll_gone(context).is_ready() {
                    // What runs on it ends with it.
                    driver.fail();
                    open.lost();
                    return Poll::Ready(());
                }
                Poll::Pending
            })
            .await;
            at_end.set(true);
            drop(open);
        });
        let begun = Instant::now();
        let used = Cell::new(begun);
        let (streams, retires) = (Cell::new(0), Cell::new(false));
        Rc::new(Self { requests, streams, closed, used, begun, aged, retires })
    }

    /// Whether one more request fits.
    pub fn has_room(&self) -> bool {
        let most = self.requests.most_streams().min(MOST_STREAMS);
        !self.is_closed() && !self.retires.get() && self.streams.get() < most
    }

    /// Whether it can never be used again.
    pub fn is_closed(&self) -> bool {
        self.closed.get() || !self.requests.may_open()
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

    /// Sends a request and waits for the head of the answer. Only the body is taken out of it.
    pub async fn send(
        self: Rc<Self>,
        request: &mut Request<RequestBody>,
    ) -> Result<Response<Http2Body>, Http2Failure> {
        if request.extensions().get::<AsksForWebSocket>().is_some() {
            // In a box, because few requests do.
            return Box::pin(self.switch(std::mem::take(request))).await;
        }
        let lease = Lease::on(&self);
        let ends = request.body().is_empty();
        let (mut receiver, sender) =
            self.requests.open(request, ends).map_err(|_| Http2Failure::unsent())?;
        let body = std::mem::take(request.body_mut());
        let mut upload = (!ends).then(|| Pump::new(body, sender));
        let mut callers_fault = false;
        let answered = poll_fn(|context| {
            if let Some(running) = &mut upload
                && let Poll::Ready(moved) = running.poll(context)
            {
                callers_fault = matches!(moved, Err(PumpError::Body(_)));
                upload = None;
            }
            receiver.poll_head(context)
        })
        .await;
        match answered {
            Ok(response) => Ok(response.map(|()| Http2Body {
                came: Came::Answer { body: ReceivedBody::new(receiver), upload },
                _lease: lease,
            })),
            Err(error) => Err(Http2Failure { callers_fault, ..Http2Failure::of(error) }),
        }
    }

    /// Asks for a WebSocket (RFC 8441). Where the upstream agrees, the answer is that of HTTP/1.1: a
    /// switch, with the proof that the caller's key asks for.
    async fn switch(
        self: Rc<Self>,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Http2Body>, Http2Failure> {
        let lease = Lease::on(&self);
        // A new connection's first settings may be on their way.
        let until = self.begun + SETTINGS_TIME;
        while !self.requests.takes_protocols() {
            if self.is_closed() {
                return Err(Http2Failure::of(StreamError::Closed));
            }
            if Instant::now() >= until {
                debug!("the upstream takes no WebSocket over HTTP/2 (RFC 8441)");
                return Err(Http2Failure { no_websocket: true, ..Http2Failure::default() });
            }
            tokio::time::sleep(SETTINGS_LOOK).await;
        }
        let accept = websocket::take_key(request.headers_mut());
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol(Bytes::from_static(b"websocket")));
        let (mut receiver, sender) =
            self.requests.open(&request, false).map_err(Http2Failure::of)?;
        let answered = poll_fn(|context| receiver.poll_head(context)).await;
        let mut response = answered.map_err(Http2Failure::of)?;
        let agreed = response.status().is_success();
        if agreed {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
            response.headers_mut().extend(accept.map(|accept| (SEC_WEBSOCKET_ACCEPT, accept)));
        }
        Ok(response.map(|()| Http2Body {
            came: if agreed {
                Came::Tunnel(Box::new(StreamEnd::new(receiver, sender)))
            } else {
                Came::Answer { body: ReceivedBody::new(receiver), upload: None }
            },
            _lease: lease,
        }))
    }
}

impl Http2Failure {
    /// The connection takes no more requests.
    fn unsent() -> Self {
        Self { unsent: true, unprocessed: true, closed: true, ..Self::default() }
    }

    fn of(error: StreamError) -> Self {
        Self {
            unprocessed: error == StreamError::Unprocessed,
            closed: error == StreamError::Closed,
            ..Self::default()
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
        match &mut self.came {
            Came::Answer { body, .. } => body.poll_next(context),
            Came::Tunnel(_) => Poll::Ready(None),
        }
    }

    /// Sends what the upstream takes of the rest of the request.
    pub fn carry_on(&mut self, context: &mut Context<'_>) {
        if let Came::Answer { upload, .. } = &mut self.came
            && upload.as_mut().is_some_and(|upload| upload.poll(context).is_ready())
        {
            *upload = None;
        }
    }

    /// Whether all of it was taken.
    pub fn is_end(&self) -> bool {
        match &self.came {
            Came::Answer { body, .. } => body.is_end(),
            Came::Tunnel(_) => false,
        }
    }

    /// Whether the stream has become a tunnel.
    pub fn has_switched(&self) -> bool {
        matches!(self.came, Came::Tunnel(_))
    }

    /// The stream as a tunnel's end, where it has become one.
    pub fn tunnel(&mut self) -> Option<&mut dyn TunnelEnd> {
        match &mut self.came {
            Came::Answer { .. } => None,
            Came::Tunnel(end) => Some(&mut **end),
        }
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
