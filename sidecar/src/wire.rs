//! A TCP connection as hyper's codec wants it, with as few writes as can be.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::listener::ConnectionWatch;

/// A head and a small body up to this size leave in one plain `send`, which is cheaper than a
/// gathering write.
const JOINED_BYTES: usize = 2048;

/// A TCP connection under an HTTP/1 codec.
pub struct Wire {
    io: TokioIo<TcpStream>,
    /// Told of bytes that come, on connections of callers.
    watch: Option<Rc<ConnectionWatch>>,
}

impl Wire {
    /// A connection to an upstream.
    pub fn new(stream: TcpStream) -> Self {
        Self { io: TokioIo::new(stream), watch: None }
    }

    /// A connection of a caller.
    pub fn watched(stream: TcpStream, watch: Rc<ConnectionWatch>) -> Self {
        Self { io: TokioIo::new(stream), watch: Some(watch) }
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if let (Poll::Ready(_), Some(watch)) = (&read, &self.watch) {
            watch.bytes_came();
        }
        read
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if slices.len() < 2 || length > JOINED_BYTES {
            return Pin::new(&mut self.io).poll_write_vectored(context, slices);
        }
        let mut joined = [0; JOINED_BYTES];
        let mut end = 0;
        for slice in slices {
            joined[end..end + slice.len()].copy_from_slice(slice);
            end += slice.len();
        }
        Pin::new(&mut self.io).poll_write(context, &joined[..end])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
