//! A caller's connection: its requests one after the other, each answered before the next is read.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use segue_sidecar_core::http1::{
    Connection, Framing, HeadEnd, HeadError, MOST_HEAD_BYTES, Message, RequestHead, parse_request,
    stated_length, write_response,
};
use thiserror::Error;

use super::incoming::{Incoming, ReadError};
use super::outgoing::{Outgoing, WrongLength};
use super::pipe::{Pipe, PipedBody};
use super::tunnel::{Tunnel, TunnelEnd};
use super::wire::{SMALL_READ_BYTES, Wire};
use crate::tls::Socket;
use crate::websocket::AsksForWebSocket;

/// What is read of a body that nobody wanted, so that the connection can go on.
const MOST_UNWANTED_BYTES: u64 = 64 * 1024;
const UNWANTED_TIME: Duration = Duration::from_secs(5);
/// What is read after the last answer, so that the answer is not lost to a reset.
const MOST_LATE_BYTES: u64 = 1024 * 1024;
const LATE_TIME: Duration = Duration::from_secs(2);
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// One connection.
pub struct ServerConnection {
    line: Rc<RefCell<Line>>,
    end: HeadEnd,
    asked: Asked,
}

/// What a request's body reads from as well.
struct Line {
    wire: Wire,
    incoming: Incoming,
    /// The caller waits for `100 Continue` before it sends the body.
    expects: bool,
    /// `100 Continue` has not gone out yet.
    continues: bool,
    /// Counts requests: bodies of earlier ones must not read the next one's bytes.
    request: u64,
}

/// What matters of a request for its answer.
struct Asked {
    head: bool,
    websocket: bool,
    version: Version,
    message: Message,
}

/// What comes next on a connection: a request with its body if it has one, or nothing, because the
/// caller has closed it. `Err`: no request. It must be answered, and nothing after it read.
pub type Next = Result<Option<Request<Option<ServerBody>>>, HeadError>;

/// The body of a request. Not read by anyone before it is polled.
pub struct ServerBody {
    line: Rc<RefCell<Line>>,
    request: u64,
}

/// An answer's body, which may carry the rest of its request's body with it.
pub trait AnswerBody: PipedBody {
    /// Carries on with what is not the answer, while the caller is slow to take the answer.
    fn carry_on(&mut self, context: &mut Context<'_>);

    /// The upstream's end, where the answer is a switch to another protocol.
    fn tunnel(&mut self) -> Option<&mut dyn TunnelEnd>;
}

/// An answer that did not reach its end. But for one that was not sent, the connection must be
/// closed.
#[derive(Debug, Error)]
pub enum RespondError<E> {
    /// No byte of it was sent: another answer can take its place.
    #[error("the answer broke off before it was sent: {0}")]
    Unsent(E),
    #[error("the answer broke off: {0}")]
    Body(E),
    #[error("{0}")]
    Length(#[from] WrongLength),
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the caller has gone")]
    Gone,
}

impl ServerConnection {
    /// Speaks HTTP/1.1 over a new connection.
    pub fn new(socket: impl Into<Socket>) -> Self {
        let line = Line {
            wire: Wire::new(socket),
            incoming: Incoming::Ended,
            expects: false,
            continues: false,
            request: 0,
        };
        let (version, message) = (Version::HTTP_11, Message::default());
        let asked = Asked { head: false, websocket: false, version, message };
        Self { line: Rc::new(RefCell::new(line)), end: HeadEnd::of_request(), asked }
    }

    /// Whether no byte of the next request has come.
    pub fn is_idle(&self) -> bool {
        self.line.borrow().wire.received.is_empty()
    }

    /// The next request; to be asked for only after the one before was answered to its end.
    /// `came` is told of bytes of its head.
    pub fn poll_next(&mut self, context: &mut Context<'_>, came: impl Fn()) -> Poll<Next> {
        loop {
            let line = &mut *self.line.borrow_mut();
            let received = &mut line.wire.received;
            if !received.is_empty() {
                came();
            }
            match self.end.find(received) {
                Ok(Some(length)) => {
                    let head = received.split_to(length).freeze();
                    self.end = HeadEnd::of_request();
                    return Poll::Ready(match parse_request(head) {
                        Ok(head) => {
                            self.asked = Asked::of(&head);
                            let body = line.begin(&head, &self.line);
                            let mut request = head.into_request(body);
                            if self.asked.websocket {
                                request.extensions_mut().insert(AsksForWebSocket);
                            }
                            Ok(Some(request))
                        }
                        Err(error) => line.refuse(error),
                    });
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(line.refuse(error)),
            }
            match ready!(line.wire.poll_receive(context, SMALL_READ_BYTES)) {
                Ok(0) | Err(_) => return Poll::Ready(Ok(None)),
                Ok(_) => {}
            }
        }
    }

    /// Ready when the caller has gone away before its answer. What it sends behind its request is
    /// kept, up to a head's length.
    pub fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        let line = &mut *self.line.borrow_mut();
        while line.incoming.is_ended() && line.wire.received.len() < MOST_HEAD_BYTES {
            if let Ok(0) | Err(_) = ready!(line.wire.poll_receive(context, SMALL_READ_BYTES)) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Sends the answer. `closes`: it is the last one. Returns whether the connection may serve
    /// another request.
    pub async fn respond<B: AnswerBody>(
        &mut self,
        response: Response<B>,
        closes: bool,
    ) -> Result<bool, RespondError<B::Error>> {
        let (parts, mut body) = response.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let upstream = body.tunnel().filter(|_| self.asked.websocket).ok_or(WrongLength)?;
            self.switch(&parts, upstream).await?;
            return Ok(false);
        }
        let (framing, mut outgoing) = self.frame(&parts, &body)?;
        let closes = {
            let line = &mut *self.line.borrow_mut();
            let unread =
                Rc::strong_count(&self.line) == 1 && !line.incoming.is_within(MOST_UNWANTED_BYTES);
            let until_close = framing == Framing::Unsaid && !outgoing.is_ended();
            let expects = std::mem::take(&mut line.expects);
            let closes = closes || !self.asked.keeps_alive() || unread || until_close || expects;
            let connection = if closes { Connection::Close } else { Connection::Unsaid };
            line.wire.begin();
            let page = line.wire.page();
            write_response(page, parts.status, &parts.headers, framing, connection);
            closes
        };
        drop(parts);
        poll_fn(|context| self.poll_respond(&mut outgoing, &mut body, context)).await?;
        drop(body);
        Ok(!closes && self.skip_unwanted().await)
    }

    /// Agrees to a tunnel and passes on whatever comes, what came before included.
    pub async fn pass_through(&self, upstream: &mut Wire, mut tunnel: Tunnel) -> io::Result<()> {
        {
            let line = &mut *self.line.borrow_mut();
            let page = line.wire.page();
            let none = HeaderMap::new();
            write_response(page, StatusCode::OK, &none, Framing::Unsaid, Connection::Unsaid);
        }
        poll_fn(|context| tunnel.poll(&mut self.line.borrow_mut().wire, upstream, context))
            .await
            .inspect_err(|_| {
                // Each side sees that the other one did not end in order.
                self.line.borrow().wire.reset_at_end();
                upstream.reset_at_end();
            })
    }

    /// Ends the connection so that the last answer reaches a caller that may still be sending.
    pub async fn close(self) {
        let is_over = |line: &Line| line.incoming.is_ended() && line.wire.is_quiet();
        if is_over(&self.line.borrow()) {
            return self.end().await;
        }
        let mut seen = 0;
        let late = poll_fn(|context| {
            let wire = &mut self.line.borrow_mut().wire;
            ready!(wire.poll_shutdown(context))?;
            while seen < MOST_LATE_BYTES {
                wire.received.clear();
                match ready!(wire.poll_receive(context, SMALL_READ_BYTES))? {
                    0 => break,
                    received => seen += received as u64,
                }
            }
            Poll::Ready(io::Result::Ok(()))
        });
        // Whatever happened, it is closed now.
        let _ = tokio::time::timeout(LATE_TIME, late).await;
    }

    /// Says that nothing more comes, where the end of the connection alone does not: over TLS it could
    /// be anybody's.
    pub async fn end(&self) {
        if self.line.borrow().wire.is_plain() {
            return;
        }
        let ending = poll_fn(|context| self.line.borrow_mut().wire.poll_shutdown(context));
        // Whatever happened, it is closed now.
        let _ = tokio::time::timeout(LATE_TIME, ending).await;
    }

    /// Agrees to a switch, and then passes on whatever comes, what came before included.
    async fn switch(&self, parts: &Parts, upstream: &mut dyn TunnelEnd) -> io::Result<()> {
        let connection = Connection::WebSocket;
        {
            let line = &mut *self.line.borrow_mut();
            let page = line.wire.page();
            write_response(page, parts.status, &parts.headers, Framing::Unsaid, connection);
        }
        let mut tunnel = Tunnel::of_websocket();
        poll_fn(|context| tunnel.poll(&mut self.line.borrow_mut().wire, upstream, context)).await
    }

    fn poll_respond<B: AnswerBody>(
        &self,
        outgoing: &mut Outgoing,
        body: &mut B,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), RespondError<B::Error>>> {
        loop {
            let mut waits = false;
            let (has_room, takes_pipes) = {
                let wire = &self.line.borrow().wire;
                (wire.has_room(), wire.is_plain())
            };
            if !outgoing.is_ended() && has_room {
                // The request's body, which may be read in here, borrows the line as well.
                let piece = outgoing.poll_piece(body, takes_pipes, context);
                let wire = &mut self.line.borrow_mut().wire;
                match piece {
                    Poll::Ready(Some(Ok(piece))) => {
                        outgoing.push(piece, body.is_end_stream(), wire)?;
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        let unsent = wire.is_unsent();
                        wire.discard();
                        if outgoing.ends_with_connection() {
                            wire.reset_at_end();
                        }
                        let of = if unsent { RespondError::Unsent } else { RespondError::Body };
                        return Poll::Ready(Err(of(error)));
                    }
                    Poll::Ready(None) => outgoing.end(wire)?,
                    Poll::Pending => waits = true,
                }
            }
            let flushed = self.line.borrow_mut().wire.poll_flush(context)?;
            match flushed {
                Poll::Ready(()) if outgoing.is_ended() => {
                    // A body whose length was known may not know itself that it is over.
                    if !body.is_end_stream() {
                        let _ = Pin::new(&mut *body).poll_frame(context);
                    }
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(()) if !waits => continue,
                Poll::Ready(()) => {}
                Poll::Pending => body.carry_on(context),
            }
            return self.poll_gone(context).map(|()| Err(RespondError::Gone));
        }
    }

    /// What the head says of the body, and what goes of it.
    fn frame<B: Body>(
        &self,
        parts: &Parts,
        body: &B,
    ) -> Result<(Framing, Outgoing), RespondError<B::Error>> {
        let stated = stated_length(&parts.headers).map_err(|_| WrongLength)?;
        let length = stated.or(body.size_hint().exact());
        let framing = match length {
            _ if parts.status == StatusCode::NO_CONTENT || parts.status.is_informational() => {
                return Ok((Framing::Unsaid, Outgoing::none()));
            }
            // These say how long the body would be, if they know it.
            _ if self.asked.head || parts.status == StatusCode::NOT_MODIFIED => {
                let framing = stated.map_or(Framing::Unsaid, Framing::Length);
                return Ok((framing, Outgoing::none()));
            }
            Some(length) => Framing::Length(length),
            None if self.asked.version == Version::HTTP_11 => Framing::Chunked,
            None => Framing::Unsaid,
        };
        Ok((framing, Outgoing::new(framing, self.asked.message.wants_trailers())))
    }

    /// Reads what is left of the request's body and forgets it; whether it was little and came
    /// soon.
    async fn skip_unwanted(&mut self) -> bool {
        {
            let line = &mut *self.line.borrow_mut();
            line.request += 1;
            if line.incoming.is_ended() {
                return true;
            }
            if !line.incoming.is_within(MOST_UNWANTED_BYTES) {
                return false;
            }
        }
        let mut seen = 0;
        let skipped = poll_fn(|context| {
            let line = &mut *self.line.borrow_mut();
            while seen <= MOST_UNWANTED_BYTES {
                match ready!(line.incoming.poll_next(&mut line.wire, context)) {
                    None => return Poll::Ready(true),
                    Some(Ok(frame)) => seen += frame.data_ref().map_or(0, Bytes::len) as u64,
                    Some(Err(_)) => break,
                }
            }
            Poll::Ready(false)
        });
        tokio::time::timeout(UNWANTED_TIME, skipped).await.unwrap_or(false)
    }
}

impl Line {
    /// Nobody knows where the next request begins.
    fn refuse(&mut self, error: HeadError) -> Next {
        self.incoming = Incoming::UntilClose;
        Err(error)
    }

    /// The body of a request whose head was read.
    fn begin(&mut self, head: &RequestHead, line: &Rc<RefCell<Self>>) -> Option<ServerBody> {
        self.request += 1;
        self.incoming = Incoming::new(head.body);
        let has_body = !self.incoming.is_ended();
        self.expects =
            has_body && head.version == Version::HTTP_11 && head.message.expects_continue();
        self.continues = false;
        has_body.then(|| ServerBody { line: Rc::clone(line), request: self.request })
    }

    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        if std::mem::take(&mut self.expects) {
            self.wire.page().extend_from_slice(CONTINUE);
            self.continues = true;
        }
        if self.continues {
            self.continues = self.wire.poll_flush(context)?.is_pending();
        }
        self.incoming.poll_next(&mut self.wire, context)
    }
}

impl Asked {
    fn of(head: &RequestHead) -> Self {
        Self {
            head: head.method == Method::HEAD,
            websocket: head.asks_for_websocket(),
            version: head.version,
            message: head.message,
        }
    }

    /// Whether another request may follow. Bytes behind a request for a switch that nobody agreed
    /// to are none.
    fn keeps_alive(&self) -> bool {
        let is_current = self.version == Version::HTTP_11;
        is_current && self.message.keeps_alive(self.version) && !self.websocket
    }
}

impl ServerBody {
    /// The next piece, then the trailers if there are any.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        let mut line = self.line.borrow_mut();
        if line.request != self.request {
            return Poll::Ready(Some(Err(ReadError::Over)));
        }
        line.poll_body(context)
    }

    /// Fills a pipe with the next piece, where it can come so; whether anything came.
    pub fn fill(&mut self, pipe: &mut Pipe) -> bool {
        let line = &mut *self.line.borrow_mut();
        let may_read = line.request == self.request && !line.expects && !line.continues;
        may_read && line.incoming.fill(&mut line.wire, pipe)
    }

    /// Whether all of it was taken.
    pub fn is_end(&self) -> bool {
        let line = self.line.borrow();
        line.request == self.request && line.incoming.is_ended()
    }

    /// What is known of the length.
    pub fn size_hint(&self) -> SizeHint {
        let line = self.line.borrow();
        if line.request == self.request { line.incoming.size_hint() } else { SizeHint::default() }
    }
}
