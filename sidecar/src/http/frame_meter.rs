//! A caller's HTTP/2 connection whose frames are counted as they pass.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use segue_sidecar_core::flood::FrameBudget;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A connection that stops to be read when its caller floods it.
pub struct FrameMeter {
    stream: TcpStream,
    budget: FrameBudget,
    begun: Instant,
    flooded: Rc<Cell<bool>>,
}

impl FrameMeter {
    /// Counts from the preface on. `flooded` becomes true when there were too many frames.
    pub fn new(stream: TcpStream, flooded: Rc<Cell<bool>>) -> Self {
        Self { stream, budget: FrameBudget::default(), begun: Instant::now(), flooded }
    }
}

impl AsyncRead for FrameMeter {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.flooded.get() {
            // The task that serves the connection has something to say first.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            let begun = self.begun;
            if !self.budget.received(&buffer.filled()[before..], || begun.elapsed()) {
                self.flooded.set(true);
            }
        }
        read
    }
}

impl AsyncWrite for FrameMeter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.budget.sent(&bytes[..*count]);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        if let Poll::Ready(Ok(count)) = &written {
            let mut left = *count;
            for slice in slices {
                let sent = slice.len().min(left);
                self.budget.sent(&slice[..sent]);
                left -= sent;
            }
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
