//! Moves bytes between a session and its socket.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::Request;
use segue_sidecar_core::http2::Reason;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::halves::{Receiver, Sender};
use super::session::{Limits, Session, Shared};
use super::stream::StreamError;
use crate::buffers::Size;

/// Room for a frame and more.
const READ_BYTES: usize = 32 * 1024;
/// Reads before others have their turn.
const MOST_READS: usize = 16;
/// What may wait to go while more is read, twice what bodies alone may be: who takes no answers is
/// not asked for more.
const MOST_UNSENT_BYTES: usize = 128 * 1024;

/// A connection that ended before its time.
#[derive(Debug, Error)]
pub enum ConnectionError {
    #[error("the peer broke the rules of HTTP/2: {0}")]
    Violated(Reason),
    #[error("{0}")]
    Io(#[from] io::Error),
}

struct Driver<S> {
    io: S,
    session: Shared,
    received: BytesMut,
    /// Whether nothing is read until more has gone.
    pauses: bool,
    /// Whether nothing is to be said any more.
    is_shut: bool,
}

/// The end that answers.
pub struct ServerConnection<S> {
    driver: Driver<S>,
}

/// Drives the end that asks; on a task of its own.
pub struct ClientDriver<S> {
    driver: Driver<S>,
}

/// Opens streams on a connection. Dropped, it lets the connection end with the streams that run.
pub struct Requests {
    session: Shared,
}

/// Asks whether the peer is there.
pub struct Pinger {
    session: Shared,
}

/// A connection to a server. Nothing was sent yet.
pub fn begin_client<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    limits: Limits,
) -> (Requests, ClientDriver<S>) {
    let session = Rc::new(RefCell::new(Session::client(limits)));
    let requests = Requests { session: Rc::clone(&session) };
    (requests, ClientDriver { driver: Driver::new(io, session) })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    fn new(io: S, session: Shared) -> Self {
        Self { io, session, received: BytesMut::new(), pauses: false, is_shut: false }
    }

    /// Hands on what came; ready when nothing comes any more.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        for _ in 0..MOST_READS {
            {
                let session = &mut *self.session.borrow_mut();
                if !session.is_alive() || session.is_flooded() {
                    return Poll::Pending;
                }
                if session.out().waiting() > MOST_UNSENT_BYTES {
                    self.pauses = true;
                    return Poll::Pending;
                }
            }
            if self.received.capacity() - self.received.len() < READ_BYTES {
                if !self.received.is_empty() {
                    self.received.reserve(READ_BYTES);
                } else if !self.received.try_reclaim(READ_BYTES) {
                    self.release();
                    self.received = Size::Small.borrow_buffer(READ_BYTES);
                }
            }
            let read = pin!(self.io.read_buf(&mut self.received)).poll(context);
            if read.is_pending() {
                self.release();
                return Poll::Pending;
            }
            let count = ready!(read)?;
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
            let session = &mut *self.session.borrow_mut();
            if let Err(reason) = session.receive(&mut self.received) {
                session.end(reason);
                return Poll::Ready(Err(ConnectionError::Violated(reason)));
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Gives back memory that holds nothing.
    fn release(&mut self) {
        if self.received.is_empty() && self.received.capacity() > 0 {
            Size::Small.return_buffer(std::mem::take(&mut self.received));
        }
    }

    /// Sends what waits.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let session = &mut *self.session.borrow_mut();
        let flushed = session.out().poll_flush(&mut self.io, context);
        session.made_room();
        if flushed.is_ready() && std::mem::take(&mut self.pauses) {
            context.waker().wake_by_ref();
        }
        flushed
    }

    /// Says all that waits and that nothing follows; ready when the peer has gone as well.
    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_shut {
            if ready!(self.poll_flush(context)).is_err() {
                return Poll::Ready(());
            }
            if ready!(Pin::new(&mut self.io).poll_shutdown(context)).is_err() {
                return Poll::Ready(());
            }
            self.is_shut = true;
        }
        // A close with unread bytes would take back what the peer has not read yet.
        loop {
            self.received.clear();
            self.received.reserve(READ_BYTES);
            match ready!(pin!(self.io.read_buf(&mut self.received)).poll(context)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ServerConnection<S> {
    /// Speaks HTTP/2 over a new connection.
    pub fn new(io: S, limits: Limits) -> Self {
        let session = Rc::new(RefCell::new(Session::server(limits)));
        Self { driver: Driver::new(io, session) }
    }

    /// To be called around everything that is done on the connection's task: what is written
    /// meanwhile goes with the next flush.
    pub fn drive<R>(
        &mut self,
        context: &mut Context<'_>,
        run: impl FnOnce(&mut Self, &mut Context<'_>) -> R,
    ) -> R {
        self.driver.session.borrow_mut().drive(Some(context.waker()));
        let result = run(self, context);
        self.driver.session.borrow_mut().drive(None);
        result
    }

    /// Whether the caller has said its settings.
    pub fn has_begun(&self) -> bool {
        self.driver.session.borrow().has_begun()
    }

    /// Takes what came; ready when nothing comes any more.
    pub fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.driver.poll_receive(context)
    }

    /// The next request that came, and where its answer goes.
    pub fn next_request(&mut self) -> Option<(Request<Option<Receiver>>, Sender)> {
        let shared = &self.driver.session;
        let mut session = shared.borrow_mut();
        let (key, request) = session.next_request()?;
        let receiver = if session.is_end(key) {
            session.drop_receiver(key);
            None
        } else {
            Some(Receiver::new(shared, key))
        };
        Some((request.map(|()| receiver), Sender::new(shared, key)))
    }

    /// Streams that were cancelled before they were asked for, since the last look.
    pub fn take_unseen_resets(&mut self) -> u32 {
        self.driver.session.borrow_mut().take_unseen_resets()
    }

    /// Whether the caller sent too many frames of little use.
    pub fn is_flooded(&self) -> bool {
        self.driver.session.borrow().is_flooded()
    }

    /// Sends what waits.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.driver.poll_flush(context)
    }

    /// Takes no more streams, but for those that are on their way.
    pub fn announce_end(&mut self) {
        self.driver.session.borrow_mut().announce_end();
    }

    /// Ends all streams.
    pub fn end(&mut self, reason: Reason) {
        self.driver.session.borrow_mut().end(reason);
    }

    /// The caller has gone.
    pub fn fail(&mut self) {
        self.driver.session.borrow_mut().fail_all();
    }

    /// Whether frames are still read.
    pub fn is_alive(&self) -> bool {
        self.driver.session.borrow().is_alive()
    }

    /// Whether nothing more can happen.
    pub fn is_over(&self) -> bool {
        self.driver.session.borrow().is_over()
    }

    /// Says all that waits, and that nothing follows; ready when the caller has gone as well.
    pub fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.driver.poll_close(context)
    }

    /// Asks whether the caller is there.
    pub fn pinger(&self) -> Pinger {
        Pinger { session: Rc::clone(&self.driver.session) }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientDriver<S> {
    /// Asks whether the server is there.
    pub fn pinger(&self) -> Pinger {
        Pinger { session: Rc::clone(&self.driver.session) }
    }

    /// Ready when the connection is over, with all its streams.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.driver.session.borrow_mut().drive(Some(context.waker()));
        let ended = self.poll_once(context);
        let session = &mut *self.driver.session.borrow_mut();
        session.drive(None);
        if ended.is_ready() {
            session.fail_all();
        }
        ended
    }

    /// Gives the connection up, with all its streams.
    pub fn fail(&mut self) {
        self.driver.session.borrow_mut().fail_all();
    }

    fn poll_once(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let received = self.driver.poll_receive(context);
        let flushed = self.driver.poll_flush(context)?;
        if let Poll::Ready(ended) = received {
            return Poll::Ready(ended);
        }
        if flushed.is_ready() && self.driver.session.borrow().is_over() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

impl Requests {
    /// Opens a stream with a request, whose target has a scheme, an authority and a path. An error:
    /// the connection takes no more.
    pub fn open<B>(
        &self,
        request: &Request<B>,
        ends: bool,
    ) -> Result<(Receiver, Sender), StreamError> {
        let key = self.session.borrow_mut().open(request, ends)?;
        Ok((Receiver::new(&self.session, key), Sender::new(&self.session, key)))
    }

    /// Whether a stream could be opened, were there room for it.
    pub fn may_open(&self) -> bool {
        self.session.borrow().may_open()
    }

    /// Streams that may be open at one time.
    pub fn most_streams(&self) -> usize {
        self.session.borrow().most_streams() as usize
    }

    /// Whether the server takes `CONNECT` with a protocol.
    pub fn takes_protocols(&self) -> bool {
        self.session.borrow().takes_protocols()
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.session.borrow_mut().abandon();
    }
}

impl Pinger {
    /// Asks; ends when the peer answers, or the connection is over.
    pub async fn ping(&self) {
        let before = {
            let mut session = self.session.borrow_mut();
            session.ping();
            session.pongs()
        };
        std::future::poll_fn(|context| self.session.borrow_mut().poll_pong(before, context)).await;
    }
}
