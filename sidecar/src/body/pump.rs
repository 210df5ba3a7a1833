//! Moves a body into an HTTP/2 stream, as fast as the peer's window allows.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body;
use segue_sidecar_core::http2::Reason;
use thiserror::Error;

use crate::http2::Sender;

/// A body that could not be moved to its end.
#[derive(Debug, Error)]
pub enum PumpError<E> {
    /// The source broke off; the stream was reset.
    #[error("the body broke off: {0}")]
    Body(E),
    /// The receiver does not want the rest.
    #[error("the receiver closed the stream")]
    Closed,
}

/// A body on its way into a stream. Holds at most one chunk.
pub struct Pump<B> {
    body: B,
    stream: Sender,
    chunk: Bytes,
    sent_bytes: u64,
}

impl<B: Body<Data = Bytes> + Unpin> Pump<B> {
    /// Moves `body` into `stream`.
    pub fn new(body: B, stream: Sender) -> Self {
        Self { body, stream, chunk: Bytes::new(), sent_bytes: 0 }
    }

    /// How much was handed over so far, while the receiver's window has no room for more of what
    /// there is to send; else `None`.
    pub fn blocked_at(&self) -> Option<u64> {
        (!self.chunk.is_empty()).then_some(self.sent_bytes)
    }

    /// Gives the stream up.
    pub fn reset(&mut self, reason: Reason) {
        self.stream.reset(reason);
    }

    /// Ready when all of the body was handed over, or cannot be.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), PumpError<B::Error>>> {
        loop {
            if !self.chunk.is_empty() {
                let ended = ready!(self.poll_send(context))?;
                if ended {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            if self.stream.poll_reset(context).is_ready() {
                return Poll::Ready(Err(PumpError::Closed));
            }
            let sent = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => self.stream.send_data(Bytes::new(), true),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() && self.body.is_end_stream() => {
                        self.stream.send_data(data, true)
                    }
                    Ok(data) => {
                        self.chunk = data;
                        continue;
                    }
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) => self.stream.send_trailers(&trailers),
                        Err(_) => continue,
                    },
                },
                Some(Err(error)) => {
                    self.stream.reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Err(PumpError::Body(error)));
                }
            };
            return Poll::Ready(sent.map_err(|_| PumpError::Closed));
        }
    }

    /// Sends what the window allows of the chunk; true when that was the end of the stream.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, PumpError<B::Error>>> {
        let room = ready!(self.stream.poll_room(context)).map_err(|_| PumpError::Closed)?;
        let piece = self.chunk.split_to(room.min(self.chunk.len()));
        self.sent_bytes += piece.len() as u64;
        let last = self.chunk.is_empty() && self.body.is_end_stream();
        self.stream.send_data(piece, last).map_err(|_| PumpError::Closed)?;
        Poll::Ready(Ok(last))
    }
}
