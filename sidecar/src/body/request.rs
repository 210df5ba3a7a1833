//! What callers send, on its way through one chunk at a time: nothing is collected.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use segue_sidecar_core::canonical::clean_trailers;
use thiserror::Error;

use crate::http1::{ReadError, ServerBody};

/// A body that broke off.
#[derive(Debug, Error)]
pub enum BodyError {
    #[error("HTTP/1.1: {0}")]
    Http1(#[from] ReadError),
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    #[error("the request took longer than its route allows")]
    Timeout,
}

/// What a caller sends.
#[derive(Default)]
pub enum RequestBody {
    #[default]
    Empty,
    Http1(ServerBody),
    Http2(ReceivedBody),
}

/// A body that comes over HTTP/2. Its window opens again as chunks are taken.
pub struct ReceivedBody {
    stream: RecvStream,
    data_ended: bool,
}

impl RequestBody {
    /// The body of an HTTP/1.1 request.
    pub fn http1(body: Option<ServerBody>) -> Self {
        body.map_or(Self::Empty, Self::Http1)
    }

    /// The body of an HTTP/2 request.
    pub fn http2(stream: RecvStream) -> Self {
        if stream.is_end_stream() { Self::Empty } else { Self::Http2(ReceivedBody::new(stream)) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl ReceivedBody {
    /// The body of a stream.
    pub fn new(stream: RecvStream) -> Self {
        Self { stream, data_ended: false }
    }

    /// The next chunk, then the trailers.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        while !self.data_ended {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(chunk)) => {
                    let taken = self.stream.flow_control().release_capacity(chunk.len());
                    return Poll::Ready(Some(match taken {
                        Ok(()) => Ok(Frame::data(chunk)),
                        Err(error) => Err(error.into()),
                    }));
                }
                // The peer has all it wanted of us: the answer it sent before is complete.
                Some(Err(error)) if error.reason() == Some(h2::Reason::NO_ERROR) => {
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.data_ended = true,
            }
        }
        Poll::Ready(match ready!(self.stream.poll_trailers(context)) {
            Ok(Some(mut trailers)) => {
                clean_trailers(&mut trailers);
                Some(Ok(Frame::trailers(trailers)))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error.into())),
        })
    }

    /// Whether all of it was taken.
    pub fn is_end(&self) -> bool {
        self.stream.is_end_stream()
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
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(body) => body.is_end(),
            Self::Http2(body) => body.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(_) => SizeHint::default(),
        }
    }
}
