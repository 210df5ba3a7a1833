//! A connection to an upstream: one request at a time, driven by the task of that request. No
//! wake-up stands between a request and its answer.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use segue_sidecar_core::http1::{
    BodyLength, Connection, Framing, HeadEnd, HeadError, ResponseHead, parse_response,
    stated_length, write_request,
};
use thiserror::Error;

use super::incoming::{Incoming, ReadError};
use super::outgoing::{Outgoing, WrongLength};
use super::pipe::{Pipe, PipedBody};
use super::wire::{SMALL_READ_BYTES, Wire};
use crate::tls::Socket;
use crate::websocket::AsksForWebSocket;

/// Answers before the answer (1xx) that an upstream may send to one request.
const MOST_INTERIM: u32 = 16;

/// One connection. Nothing runs on it.
pub struct ClientConnection {
    /// In one place for as long as it lives: what holds it for a request stays small.
    wire: Box<Wire>,
}

/// An answer's head with its body to come.
pub type Sent<B> = Response<ClientBody<B>>;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum SendFailure {
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the connection was closed before the answer")]
    Closed,
    #[error("the connection was closed within the head of the answer")]
    Incomplete,
    #[error("{0}")]
    Malformed(#[from] HeadError),
    #[error("more than {MOST_INTERIM} interim answers")]
    Interim,
    #[error("switched to another protocol without being asked")]
    Switched,
    /// The caller's fault.
    #[error("the body of the request broke off: {0}")]
    Upload(Box<dyn Error + Send + Sync>),
}

/// A request without an answer.
#[derive(Debug)]
pub struct Unanswered {
    pub failure: SendFailure,
    /// Whether no byte of it was sent. It is whole then.
    pub unsent: bool,
}

/// An answer's body, and what is left of its request's.
pub struct ClientBody<B> {
    wire: Box<Wire>,
    incoming: Incoming,
    upload: Upload<B>,
    /// Why the upload broke off, until it is told.
    failed: Option<ReadError>,
    keeps_alive: bool,
    /// What follows is no HTTP.
    switched: bool,
}

/// The body of a request on its way out, behind the head.
struct Upload<B> {
    body: B,
    outgoing: Outgoing,
    /// Whether anything of the body was taken.
    touched: bool,
    /// Whether head and body have gone.
    complete: bool,
}

/// How an upload failed.
enum UploadFailure {
    Io(io::Error),
    Body(Box<dyn Error + Send + Sync>),
}

/// Waits for the head of an answer.
struct Answer {
    end: HeadEnd,
    interim: u32,
    to_head: bool,
    /// Whether a switch was asked for.
    switches: bool,
}

impl ClientConnection {
    /// Speaks HTTP/1.1 over a new connection.
    pub fn new(socket: impl Into<Socket>) -> Self {
        Self { wire: Box::new(Wire::new(socket)) }
    }

    /// Whether a request may be sent, as far as the runtime knows. A connection that was closed or
    /// on which something came that nobody asked for must not be used.
    pub fn is_usable(&self) -> bool {
        self.wire.is_quiet()
    }

    /// Sends a request and waits for the head of its answer. The body is taken out of the request;
    /// it is back where no byte was sent and nothing of it was taken.
    pub async fn send<B>(mut self, request: &mut Request<B>) -> Result<Sent<B>, Unanswered>
    where
        B: PipedBody + Default,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let framing = framing(request.headers(), request.body())?;
        let wire = &mut *self.wire;
        wire.begin();
        let switches = request.extensions().get::<AsksForWebSocket>().is_some();
        let connection = if switches { Connection::WebSocket } else { Connection::Unsaid };
        let (method, target, headers) = (request.method(), request.uri(), request.headers());
        write_request(wire.page(), method, target, headers, framing, connection);
        let mut upload = Upload::new(std::mem::take(request.body_mut()), framing);
        let mut answer = Answer::to(request.method(), switches);
        let mut broken = None;
        let answered = poll_fn(|context| {
            if broken.is_none() {
                match upload.poll(wire, context) {
                    Poll::Ready(Err(UploadFailure::Body(error))) => {
                        return Poll::Ready(Err(SendFailure::Upload(error)));
                    }
                    // It may have answered before it closed.
                    Poll::Ready(Err(UploadFailure::Io(error))) => broken = Some(error),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            answer.poll(wire, context)
        })
        .await;
        match answered {
            Ok(head) => {
                upload.complete |= broken.is_some();
                // What is asked for a switch and does not make it may have read what comes next as
                // it likes.
                let keeps_alive =
                    head.message.keeps_alive(head.version) && broken.is_none() && !switches;
                let switched = switches && head.status == StatusCode::SWITCHING_PROTOCOLS;
                // A tunnel ends with its connection.
                let length = if switched { BodyLength::UntilClose } else { head.body };
                let incoming = Incoming::new(length);
                let wire = self.wire;
                let body =
                    ClientBody { wire, incoming, upload, failed: None, keeps_alive, switched };
                Ok(head.into_response(body))
            }
            Err(failure) => {
                let unsent = wire.is_unsent() && !upload.touched;
                if unsent {
                    *request.body_mut() = upload.body;
                }
                Err(Unanswered { failure: broken.map_or(failure, SendFailure::Io), unsent })
            }
        }
    }
}

impl<B> ClientBody<B>
where
    B: PipedBody,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// The next piece, then the trailers if there are any.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        self.carry_on(context);
        if let Some(failed) = self.failed.take() {
            return Poll::Ready(Some(Err(failed)));
        }
        self.incoming.poll_next(&mut self.wire, context)
    }

    /// Fills a pipe with the next piece, where it can come so; whether anything came.
    pub fn fill(&mut self, pipe: &mut Pipe) -> bool {
        self.failed.is_none() && self.incoming.fill(&mut self.wire, pipe)
    }

    /// Sends what the connection takes of the rest of the request. A failure is told with the next
    /// piece.
    pub fn carry_on(&mut self, context: &mut Context<'_>) {
        if self.upload.complete {
            return;
        }
        if let Poll::Ready(Err(failed)) = self.upload.poll(&mut self.wire, context) {
            self.upload.complete = true;
            self.keeps_alive = false;
            // An upstream may take no more, and yet answer.
            if let UploadFailure::Body(error) = failed {
                self.failed = Some(ReadError::Upload(error));
            }
        }
    }

    /// Whether all of it was taken.
    pub fn is_end(&self) -> bool {
        self.incoming.is_ended()
    }

    /// What is known of the length.
    pub fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    /// Whether the connection has switched to another protocol.
    pub fn has_switched(&self) -> bool {
        self.switched
    }

    /// The connection as a tunnel, where it has switched to another protocol.
    pub fn tunnel(&mut self) -> Option<&mut Wire> {
        self.switched.then_some(&mut *self.wire)
    }

    /// The connection, for another request: only where request and answer are complete and nothing
    /// came behind them.
    pub fn into_connection(mut self) -> Option<ClientConnection> {
        self.wire.release();
        let clean = self.incoming.is_ended() && self.upload.complete && self.keeps_alive;
        (clean && self.wire.is_quiet()).then_some(ClientConnection { wire: self.wire })
    }
}

impl Answer {
    fn to(method: &Method, switches: bool) -> Self {
        let to_head = *method == Method::HEAD;
        Self { end: HeadEnd::of_response(), interim: 0, to_head, switches }
    }

    fn poll(
        &mut self,
        wire: &mut Wire,
        context: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, SendFailure>> {
        loop {
            if let Some(length) = self.end.find(&wire.received)? {
                let head = wire.received.split_to(length).freeze();
                let head = parse_response(&head, self.to_head)?;
                self.end = HeadEnd::of_response();
                if !head.status.is_informational() {
                    return Poll::Ready(Ok(head));
                }
                if head.status == StatusCode::SWITCHING_PROTOCOLS {
                    if self.switches && head.agrees_to_websocket() {
                        return Poll::Ready(Ok(head));
                    }
                    return Poll::Ready(Err(SendFailure::Switched));
                }
                self.interim += 1;
                if self.interim > MOST_INTERIM {
                    return Poll::Ready(Err(SendFailure::Interim));
                }
                continue;
            }
            match ready!(wire.poll_receive(context, SMALL_READ_BYTES)) {
                Ok(received) if received > 0 => {}
                _ if self.interim > 0 || !wire.received.is_empty() => {
                    return Poll::Ready(Err(SendFailure::Incomplete));
                }
                Ok(_) => return Poll::Ready(Err(SendFailure::Closed)),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl<B> Upload<B>
where
    B: PipedBody,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    fn new(body: B, framing: Framing) -> Self {
        let outgoing = match framing {
            Framing::Unsaid | Framing::Length(0) => Outgoing::none(),
            Framing::Length(_) | Framing::Chunked => Outgoing::new(framing, true),
        };
        Self { body, outgoing, touched: false, complete: false }
    }

    /// Ready when all of it has gone.
    fn poll(
        &mut self,
        wire: &mut Wire,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), UploadFailure>> {
        while !self.complete {
            let mut waits = false;
            if !self.outgoing.is_ended() && wire.has_room() {
                match self.outgoing.poll_piece(&mut self.body, wire.is_plain(), context) {
                    Poll::Ready(Some(Ok(piece))) => {
                        self.touched = true;
                        let last = self.body.is_end_stream();
                        self.outgoing.push(piece, last, wire)?;
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        self.touched = true;
                        return Poll::Ready(Err(UploadFailure::Body(error.into())));
                    }
                    Poll::Ready(None) => {
                        self.touched = true;
                        self.outgoing.end(wire)?;
                    }
                    Poll::Pending => waits = true,
                }
            }
            ready!(wire.poll_flush(context)).map_err(UploadFailure::Io)?;
            if self.outgoing.is_ended() {
                self.complete = true;
            } else if waits {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl From<WrongLength> for Unanswered {
    fn from(wrong: WrongLength) -> Self {
        Self { failure: SendFailure::Upload(wrong.into()), unsent: false }
    }
}

impl From<WrongLength> for UploadFailure {
    fn from(wrong: WrongLength) -> Self {
        Self::Body(wrong.into())
    }
}

/// What the head of a request says of its body.
fn framing(headers: &HeaderMap, body: &impl Body) -> Result<Framing, WrongLength> {
    let is_empty = body.is_end_stream();
    match stated_length(headers).map_err(|_| WrongLength)? {
        Some(length) if is_empty && length > 0 => Err(WrongLength),
        Some(length) => Ok(Framing::Length(length)),
        None if is_empty => Ok(Framing::Unsaid),
        None => Ok(Framing::Chunked),
    }
}
