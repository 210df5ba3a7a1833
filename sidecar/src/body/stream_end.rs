//! One stream of HTTP/2 as an end of a tunnel (RFC 8441 section 5).

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};

use crate::http1::TunnelEnd;

/// Both directions of a stream.
pub struct StreamEnd {
    receive: RecvStream,
    send: SendStream<Bytes>,
    /// Given, and not taken by the peer's window yet.
    waiting: Bytes,
}

impl StreamEnd {
    /// The two halves of one stream.
    pub fn new(receive: RecvStream, send: SendStream<Bytes>) -> Self {
        Self { receive, send, waiting: Bytes::new() }
    }
}

impl TunnelEnd for StreamEnd {
    fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            let Some(piece) = ready!(self.receive.poll_data(context)) else {
                return Poll::Ready(Ok(None));
            };
            let piece = piece.map_err(broken)?;
            self.receive.flow_control().release_capacity(piece.len()).map_err(broken)?;
            if !piece.is_empty() {
                return Poll::Ready(Ok(Some(piece)));
            }
        }
    }

    fn has_room(&self) -> bool {
        self.waiting.is_empty()
    }

    fn give(&mut self, piece: Bytes) {
        self.waiting = piece;
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            self.send.reserve_capacity(self.waiting.len());
            while self.send.capacity() == 0 {
                match ready!(self.send.poll_capacity(context)) {
                    Some(granted) => drop(granted.map_err(broken)?),
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                }
            }
            let piece = self.waiting.split_to(self.send.capacity().min(self.waiting.len()));
            self.send.send_data(piece, false).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(broken))
    }
}

fn broken(error: h2::Error) -> io::Error {
    error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}
