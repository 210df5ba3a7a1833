//! One stream of HTTP/2 as an end of a tunnel (RFC 8441 section 5).

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::http1::TunnelEnd;
use crate::http2::{Receiver, Sender, StreamError};

/// Both directions of a stream.
pub struct StreamEnd {
    receive: Receiver,
    send: Sender,
    /// Given, and not taken by the peer's window yet.
    waiting: Bytes,
}

impl StreamEnd {
    /// The two halves of one stream.
    pub fn new(receive: Receiver, send: Sender) -> Self {
        Self { receive, send, waiting: Bytes::new() }
    }
}

impl TunnelEnd for StreamEnd {
    fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        self.receive.poll_data(context).map(|piece| piece.transpose().map_err(broken))
    }

    fn has_room(&self) -> bool {
        self.waiting.is_empty()
    }

    fn give(&mut self, piece: Bytes) {
        self.waiting = piece;
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let room = ready!(self.send.poll_room(context)).map_err(broken)?;
            let piece = self.waiting.split_to(room.min(self.waiting.len()));
            self.send.send_data(piece, false).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(broken))
    }
}

fn broken(error: StreamError) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
