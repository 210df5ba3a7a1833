//! What callers send, on its way through one chunk at a time: nothing is collected, but what may have
//! to be sent again.

mod kept;
mod paced;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use segue_sidecar_core::canonical::clean_trailers;
use segue_sidecar_core::http2::Reason;
use thiserror::Error;
use tokio::sync::oneshot;

pub use kept::Kept;
pub use paced::{Pace, Paced};

use crate::http1::{Pipe, PipedBody, ReadError, ServerBody};
use crate::http2::{Receiver, StreamError};

/// A body that broke off.
#[derive(Debug, Error)]
pub enum BodyError {
    #[error("HTTP/1.1: {0}")]
    Http1(#[from] ReadError),
    #[error("HTTP/2: {0}")]
    Http2(#[from] StreamError),
    #[error("the request took longer than its route allows")]
    Timeout,
    #[error("nothing came for the time that the route allows")]
    Idle,
    #[error("too little of the request's body came in too long a time")]
    Slow,
}

/// What a caller sends.
#[derive(Default)]
pub enum RequestBody {
    #[default]
    Empty,
    Http1(ServerBody),
    Http2(ReceivedBody),
    /// A copy of one that passed.
    Whole(Bytes),
    /// One that is copied as it passes.
    Copied(Box<Copied>),
    /// One that may be sent again.
    Kept(Kept),
    /// One that must come on.
    Paced(Box<Paced>),
}

/// A body, and what passed of it.
pub struct Copied {
    body: RequestBody,
    passed: BytesMut,
    /// Gets the whole; `None` once it has, or where it is too large.
    done: Option<oneshot::Sender<Bytes>>,
}

/// Largest copy of a body.
const MOST_COPIED_BYTES: usize = 64 * 1024;

/// A body that comes over HTTP/2. Its window opens again as chunks are taken.
pub struct ReceivedBody {
    stream: Receiver,
    data_ended: bool,
}

impl RequestBody {
    /// The body of an HTTP/1.1 request.
    pub fn http1(body: Option<ServerBody>) -> Self {
        body.map_or(Self::Empty, Self::Http1)
    }

    /// The body of an HTTP/2 request.
    pub fn http2(stream: Option<Receiver>) -> Self {
        stream.map_or(Self::Empty, |stream| Self::Http2(ReceivedBody::new(stream)))
    }

    /// The body, whose copy is sent once all of it has passed. Larger ones than 64 KiB, and those
    /// that break off, are not.
    #[must_use]
    pub fn copied(self, done: oneshot::Sender<Bytes>) -> Self {
        Self::Copied(Box::new(Copied { body: self, passed: BytesMut::new(), done: Some(done) }))
    }

    /// Whether the beginning of it is gone.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Kept(kept) if kept.is_lost())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Copied {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    if self.passed.len() + data.len() > MOST_COPIED_BYTES {
                        self.done = None;
                        self.passed = BytesMut::new();
                    } else if self.done.is_some() {
                        self.passed.extend_from_slice(data);
                    }
                }
                // Whoever knows the length does not ask for the end.
                if self.body.is_end_stream() {
                    self.finish();
                }
            }
            Poll::Ready(None) => self.finish(),
            Poll::Ready(Some(Err(_))) => self.done = None,
            Poll::Pending => {}
        }
        polled
    }

    fn finish(&mut self) {
        if let Some(done) = self.done.take() {
            // Nobody waits for it any more where the copy took too long.
            let _ = done.send(std::mem::take(&mut self.passed).freeze());
        }
    }
}

impl ReceivedBody {
    /// The body of a stream.
    pub fn new(stream: Receiver) -> Self {
        Self { stream, data_ended: false }
    }

    /// The next chunk, then the trailers.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        while !self.data_ended {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(chunk)) => return Poll::Ready(Some(Ok(Frame::data(chunk)))),
                // The peer has all it wanted of us: the answer it sent before is complete.
                Some(Err(StreamError::Reset(Reason::NO_ERROR))) => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.data_ended = true,
            }
        }
        Poll::Ready(self.stream.take_trailers().map(|mut trailers| {
            clean_trailers(&mut trailers);
            Ok(Frame::trailers(trailers))
        }))
    }

    /// Whether all of it was taken.
    pub fn is_end(&self) -> bool {
        self.stream.is_end()
    }
}

impl PipedBody for RequestBody {
    fn fill(&mut self, pipe: &mut Pipe) -> bool {
        match self {
            Self::Http1(body) => body.fill(pipe),
            Self::Paced(body) => body.fill(pipe),
            // Somebody keeps a copy of it, or it does not come from a socket.
            Self::Copied(_) | Self::Kept(_) | Self::Empty | Self::Http2(_) | Self::Whole(_) => {
                false
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Http1(body) => body.poll_next(context).map_err(BodyError::Http1),
            Self::Http2(body) => body.poll_next(context),
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Copied(body) => body.poll_frame(context),
            Self::Kept(body) => body.poll_next(context),
            Self::Paced(body) => body.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(body) => body.is_end(),
            Self::Http2(body) => body.is_end(),
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Copied(body) => body.body.is_end_stream(),
            Self::Kept(body) => body.is_end(),
            Self::Paced(body) => body.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(_) => SizeHint::default(),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Copied(body) => body.body.size_hint(),
            Self::Kept(body) => body.size_hint(),
            Self::Paced(body) => body.size_hint(),
        }
    }
}
