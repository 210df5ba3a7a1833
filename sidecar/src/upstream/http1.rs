//! HTTP/1.1 to an upstream: the only file that knows which codec speaks it.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::connect::OpenConnection;
use crate::body::{BodyError, RequestBody};
use crate::http1::{ClientBody, ClientConnection, Pipe, SendFailure, TunnelEnd, Unanswered};
use crate::tls::Socket;

/// One connection. Usable for one request at a time.
pub struct Http1Connection {
    connection: ClientConnection,
    open: OpenConnection,
    /// When it is too old for another request.
    aged: Instant,
}

/// A request without an answer.
pub struct Http1Failure {
    /// Whether no byte of it was sent. It is whole then.
    pub unsent: bool,
    /// Whether the caller's body was at fault.
    pub callers_fault: bool,
    /// Whether the upstream's answer broke the protocol; else the connection was closed.
    pub malformed: bool,
    /// For logs.
    pub error: SendFailure,
}

/// Where connections go whose answer is complete.
pub trait Home {
    /// Keeps a connection, or closes it.
    fn give_back(&self, connection: Http1Connection);
}

/// An answer's body. Gives the connection back when it ends.
pub struct Http1Body {
    /// `None` once it has ended.
    running: Option<(ClientBody<RequestBody>, OpenConnection)>,
    aged: Instant,
    home: Rc<dyn Home>,
}

impl Http1Connection {
    /// Speaks HTTP/1.1 over a new connection.
    pub fn begin(socket: Socket, open: OpenConnection, aged: Instant) -> Self {
        Self { connection: ClientConnection::new(socket), open, aged }
    }

    /// Whether it is too old for another request.
    pub fn is_aged(&self, now: Instant) -> bool {
        now >= self.aged
    }

    /// Takes notice of what happened while nobody looked: whether a request can be sent now.
    pub fn is_usable(&self) -> bool {
        self.connection.is_usable()
    }

    /// Sends a request, whose body is taken out of it, and waits for the head of the answer.
    pub async fn send(
        self,
        request: &mut Request<RequestBody>,
        home: Rc<dyn Home>,
    ) -> Result<Response<Http1Body>, Http1Failure> {
        let (open, aged) = (self.open, self.aged);
        match self.connection.send(request).await {
            Ok(response) => Ok(response.map(|body| {
                let mut body = Http1Body { running: Some((body, open)), aged, home };
                body.end_if_complete();
                body
            })),
            Err(Unanswered { failure, unsent }) => Err(Http1Failure {
                unsent,
                callers_fault: matches!(failure, SendFailure::Upload(_)),
                malformed: !matches!(failure, SendFailure::Io(_) | SendFailure::Closed),
                error: failure,
            }),
        }
    }
}

impl Http1Body {
    /// The next chunk, then the trailers.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some((body, _)) = &mut self.running else { return Poll::Ready(None) };
        let polled = body.poll_next(context);
        if let Poll::Ready(Some(Err(_))) = polled {
            self.running = None;
        } else {
            self.end_if_complete();
        }
        polled.map_err(BodyError::Http1)
    }

    /// Fills a pipe with the next piece, where it can come so; whether anything came.
    pub fn fill(&mut self, pipe: &mut Pipe) -> bool {
        let filled = self.running.as_mut().is_some_and(|(body, _)| body.fill(pipe));
        if filled {
            self.end_if_complete();
        }
        filled
    }

    /// Sends what the upstream takes of the rest of the request.
    pub fn carry_on(&mut self, context: &mut Context<'_>) {
        if let Some((body, _)) = &mut self.running {
            body.carry_on(context);
        }
    }

    /// Whether the connection has switched to another protocol.
    pub fn has_switched(&self) -> bool {
        self.running.as_ref().is_some_and(|(body, _)| body.has_switched())
    }

    /// The connection as a tunnel's end, where it has switched to another protocol.
    pub fn tunnel(&mut self) -> Option<&mut dyn TunnelEnd> {
        let wire = self.running.as_mut().and_then(|(body, _)| body.tunnel())?;
        Some(wire)
    }

    /// Whether all of it was taken.
    pub fn is_end(&self) -> bool {
        self.running.as_ref().is_none_or(|(body, _)| body.is_end())
    }

    /// What is known of the length.
    pub fn size_hint(&self) -> SizeHint {
        let body = self.running.as_ref();
        body.map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }

    /// Gives the connection back as soon as the last byte is taken. An answer that is dropped
    /// before its end takes the connection with it.
    fn end_if_complete(&mut self) {
        if let Some((body, open)) = self.running.take_if(|(body, _)| body.is_end())
            && let Some(connection) = body.into_connection()
        {
            self.home.give_back(Http1Connection { connection, open, aged: self.aged });
        }
    }
}
