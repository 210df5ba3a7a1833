//! A connection's bytes: those that came and were not read yet, and those that wait to go.

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWrite, Interest};

use super::pipe::Pipe;
use crate::buffers::{LARGE_BUFFER_BYTES, Size, borrow_page, return_page};
use crate::tls::Socket;

/// Room for a head, or for a piece of a small body.
pub const SMALL_READ_BYTES: usize = 4 * 1024;
/// A piece of a body up to this size is copied behind what goes before it: one `send` of both is
/// cheaper than a gathering write.
const JOINED_BYTES: usize = 4 * 1024;
/// What may wait to go before it must have gone.
const MOST_WAITING_BYTES: usize = 16 * 1024;

/// A connection. It holds memory only for bytes that are on their way.
pub struct Wire {
    socket: Socket,
    /// What came and was not read yet.
    pub received: BytesMut,
    /// What kind of borrowed memory `received` is, be it used up.
    borrowed: Option<Size>,
    /// What waits to go: the page from `sent` on, then the piece, then `behind`, then what is in the
    /// pipe.
    page: Vec<u8>,
    sent: usize,
    piece: Bytes,
    behind: &'static [u8],
    piped: Option<Pipe>,
    has_sent: bool,
}

impl Wire {
    pub fn new(socket: impl Into<Socket>) -> Self {
        Self {
            socket: socket.into(),
            received: BytesMut::new(),
            borrowed: None,
            page: Vec::new(),
            sent: 0,
            piece: Bytes::new(),
            behind: b"",
            piped: None,
            has_sent: false,
        }
    }

    /// Receives once, at least `room` bytes where as many came. 0: the peer sends no more.
    pub fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        // No memory before there is something to put there.
        match self.socket.poll_readable(context) {
            Poll::Ready(readable) => readable?,
            Poll::Pending => {
                self.release();
                return Poll::Pending;
            }
        }
        if self.received.capacity() - self.received.len() < room {
            let size = Size::of(room);
            if !self.received.is_empty() {
                self.received.reserve(room);
                self.borrowed = self.borrowed.or(Some(size));
            } else if self.borrowed != Some(size) || !self.received.try_reclaim(room) {
                self.release();
                self.received = size.borrow_buffer(room);
                self.borrowed = Some(size);
            }
        }
        let received = pin!(self.socket.read_buf(&mut self.received)).poll(context);
        if received.is_pending() {
            self.release();
        }
        received
    }

    /// Whether the peer has neither sent anything nor closed, as far as the runtime knows.
    pub fn is_quiet(&self) -> bool {
        self.received.is_empty() && self.socket.is_quiet()
    }

    /// Gives back memory that holds nothing.
    pub fn release(&mut self) {
        if self.received.is_empty()
            && let Some(size) = self.borrowed.take()
        {
            size.return_buffer(std::mem::take(&mut self.received));
        }
    }

    /// The page, to write a head or a few bytes on.
    pub fn page(&mut self) -> &mut Vec<u8> {
        if self.page.capacity() == 0 {
            self.page = borrow_page();
        }
        &mut self.page
    }

    /// Whether more may be given before all has gone.
    pub fn has_room(&self) -> bool {
        self.piece.is_empty() && self.piped.is_none() && self.page.len() < MOST_WAITING_BYTES
    }

    /// Whether its bytes are what it carries. Then pieces of bodies may come in pipes; TLS has to see
    /// them.
    pub fn is_plain(&self) -> bool {
        self.socket.plain().is_some()
    }

    /// Gives a piece of a body that is in a pipe; only while there is room.
    pub fn push_pipe(&mut self, pipe: Pipe) {
        self.piped = Some(pipe);
    }

    /// Takes up to `most` bytes that came, as far as the runtime knows, into a pipe. Nothing where
    /// others came before that were not read yet.
    pub fn fill(&mut self, pipe: &mut Pipe, most: u64) -> usize {
        if !self.received.is_empty() {
            return 0;
        }
        let Some(stream) = self.socket.plain() else { return 0 };
        // What went wrong is told to who reads next.
        stream.try_io(Interest::READABLE, || pipe.fill(stream, most)).unwrap_or(0)
    }

    /// Gives a piece of a body and what comes right behind it; only while there is room.
    pub fn push(&mut self, piece: Bytes, behind: &'static [u8]) {
        if piece.len() <= JOINED_BYTES {
            let page = self.page();
            page.extend_from_slice(&piece);
            page.extend_from_slice(behind);
        } else {
            self.piece = piece;
            self.behind = behind;
        }
    }

    /// From here on it is remembered whether anything has gone.
    pub fn begin(&mut self) {
        self.has_sent = false;
    }

    /// Whether nothing has gone since [`Self::begin`].
    pub fn is_unsent(&self) -> bool {
        !self.has_sent
    }

    /// Forgets what waits to go.
    pub fn discard(&mut self) {
        self.page.clear();
        self.sent = 0;
        self.piece = Bytes::new();
        self.behind = b"";
        self.piped = None;
    }

    /// Sends until all has gone.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let page = &self.page[self.sent..];
            if page.is_empty() && self.piece.is_empty() && self.behind.is_empty() {
                if self.piped.is_some() {
                    ready!(self.poll_drain(context))?;
                    continue;
                }
                self.sent = 0;
                return_page(std::mem::take(&mut self.page));
                return Pin::new(&mut self.socket).poll_flush(context);
            }
            let stream = Pin::new(&mut self.socket);
            let sent = if self.piece.is_empty() && self.behind.is_empty() {
                ready!(stream.poll_write(context, page))?
            } else {
                let all = [page, &self.piece, self.behind].map(IoSlice::new);
                ready!(stream.poll_write_vectored(context, &all))?
            };
            if sent == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.has_sent = true;
            self.advance(sent);
        }
    }

    /// Sends what it takes of what is in the pipe.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(pipe) = &mut self.piped else { return Poll::Ready(Ok(())) };
        let stream = self.socket.plain().ok_or(ErrorKind::Unsupported)?;
        while pipe.filled() > 0 {
            ready!(stream.poll_write_ready(context))?;
            match stream.try_io(Interest::WRITABLE, || pipe.drain(stream)) {
                Ok(0) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Ok(_) => self.has_sent = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.piped = None;
        Poll::Ready(Ok(()))
    }

    /// Has the peer see an error where the connection ends, not an end.
    pub fn reset_at_end(&self) {
        // Where the system refuses, the peer sees what it can.
        let _ = SockRef::from(self.socket.tcp()).set_linger(Some(Duration::ZERO));
    }

    /// Tells the peer that nothing more comes.
    pub fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn advance(&mut self, sent: usize) {
        let of_page = sent.min(self.page.len() - self.sent);
        self.sent += of_page;
        let of_piece = (sent - of_page).min(self.piece.len());
        if of_piece > 0 {
            drop(self.piece.split_to(of_piece));
        }
        self.behind = &self.behind[sent - of_page - of_piece..];
    }
}

/// Room for the next piece of a body: what is left of it, within bounds.
pub fn room_for(left: u64) -> usize {
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    left.clamp(SMALL_READ_BYTES, LARGE_BUFFER_BYTES)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Wire::new(listener.accept().await.unwrap().0), peer)
    }

    async fn receive(wire: &mut Wire) -> usize {
        poll_fn(|context| wire.poll_receive(context, SMALL_READ_BYTES)).await.unwrap()
    }

    #[tokio::test]
    async fn a_connection_that_waits_holds_no_memory() {
        let (mut wire, mut peer) = pair().await;
        for _ in 0..3 {
            let mut context = Context::from_waker(Waker::noop());
            assert!(wire.poll_receive(&mut context, SMALL_READ_BYTES).is_pending());
            assert_eq!((wire.received.capacity(), wire.page.capacity()), (0, 0));
            peer.write_all(b"question").await.unwrap();
            assert_eq!(receive(&mut wire).await, 8);
            assert_eq!(wire.received.split(), b"question"[..]);
            wire.page().extend_from_slice(b"answer");
            poll_fn(|context| wire.poll_flush(context)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_waits_goes_in_its_order_however_little_the_socket_takes() {
        let (mut wire, mut peer) = pair().await;
        let large: Bytes = (0..3_000_000u32).map(|i| i as u8).collect();
        wire.page().extend_from_slice(b"head");
        wire.push(Bytes::from_static(b" small "), b"|");
        assert!(wire.has_room() && wire.is_unsent());
        wire.push(large.clone(), b"!");
        assert!(!wire.has_room());
        let sending = async {
            poll_fn(|context| wire.poll_flush(context)).await.unwrap();
            assert!(wire.has_room() && !wire.is_unsent());
            poll_fn(|context| wire.poll_shutdown(context)).await.unwrap();
        };
        let mut all = Vec::new();
        let ((), read) = tokio::join!(sending, peer.read_to_end(&mut all));
        read.unwrap();
        assert!(all == [b"head small |", &large[..], b"!"].concat());
    }

    #[tokio::test]
    async fn a_connection_is_quiet_until_something_comes() {
        let (mut wire, mut peer) = pair().await;
        assert!(wire.is_quiet());
        peer.write_all(b"x").await.unwrap();
        assert_eq!(receive(&mut wire).await, 1);
        assert!(!wire.is_quiet());
        wire.received.clear();
        assert!(wire.is_quiet());
        drop(peer);
        assert_eq!(receive(&mut wire).await, 0);
        assert!(!wire.is_quiet());
    }
}
