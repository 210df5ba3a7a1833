//! Bodies on their way through, one chunk at a time: nothing is collected.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;

use crate::deadline::Deadline;
use crate::listener::RunningRequest;
use crate::outcome::Outcome;
use crate::upstream::{Http1Body, Http2Body};

/// A body that broke off.
#[derive(Debug, Error)]
pub enum BodyError {
    #[error("HTTP/1.1: {0}")]
    Http1(#[from] hyper::Error),
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
    Http1(Incoming),
    Http2(ReceivedBody),
}

/// A body that comes over HTTP/2. Its window opens again as chunks are taken.
pub struct ReceivedBody {
    stream: RecvStream,
    data_ended: bool,
}

/// Where an answer's body comes from.
#[derive(Default)]
pub enum ResponseSource {
    #[default]
    Empty,
    /// Our own words.
    Whole(Option<Bytes>),
    Http1(Http1Body),
    Http2(Http2Body),
}

/// An answer's body, which ends the request's outcome with itself.
pub struct ResponseBody {
    source: ResponseSource,
    deadline: Option<Deadline>,
    outcome: Option<Outcome>,
    /// Keeps the caller's connection from being taken for idle.
    running: Option<RunningRequest>,
}

impl RequestBody {
    /// The body of an HTTP/1.1 request.
    pub fn http1(body: Incoming) -> Self {
        if body.is_end_stream() { Self::Empty } else { Self::Http1(body) }
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
            Ok(Some(trailers)) => Some(Ok(Frame::trailers(trailers))),
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
            Self::Http1(body) => Pin::new(body).poll_frame(context).map_err(BodyError::Http1),
            Self::Http2(body) => body.poll_next(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(body) => body.is_end_stream(),
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

impl ResponseBody {
    /// A body that no outcome depends on.
    pub fn of(source: ResponseSource) -> Self {
        Self { source, deadline: None, outcome: None, running: None }
    }

    /// A body whose end is the end of the request.
    pub fn tracked(source: ResponseSource, deadline: Deadline, mut outcome: Outcome) -> Self {
        if matches!(source, ResponseSource::Empty) {
            outcome.end(true);
        }
        let deadline = deadline.moment().is_some().then_some(deadline);
        Self { source, deadline, outcome: Some(outcome), running: None }
    }

    /// The request runs on its connection until the body is gone.
    pub fn hold(&mut self, running: RunningRequest) {
        self.running = Some(running);
    }

    fn ended(&mut self, complete: bool) {
        if let Some(outcome) = &mut self.outcome {
            outcome.end(complete);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.source {
            ResponseSource::Empty => Poll::Ready(None),
            ResponseSource::Whole(bytes) => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            ResponseSource::Http1(body) => body.poll_next(context),
            ResponseSource::Http2(body) => body.poll_next(context),
        };
        match &polled {
            Poll::Ready(None) => self.ended(true),
            Poll::Ready(Some(Ok(_))) => {
                if self.is_end_stream() {
                    self.ended(true);
                }
            }
            Poll::Ready(Some(Err(_))) => self.ended(false),
            Poll::Pending => {
                let late = self.deadline.as_mut().is_some_and(|late| late.poll(context).is_ready());
                if late {
                    self.ended(false);
                    self.source = ResponseSource::Empty;
                    return Poll::Ready(Some(Err(BodyError::Timeout)));
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            ResponseSource::Empty => true,
            ResponseSource::Whole(bytes) => bytes.is_none(),
            ResponseSource::Http1(body) => body.is_end(),
            ResponseSource::Http2(body) => body.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            ResponseSource::Empty => SizeHint::with_exact(0),
            ResponseSource::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            ResponseSource::Http1(body) => body.size_hint(),
            ResponseSource::Http2(_) => SizeHint::default(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A codec that knows the end from the length does not ask for it.
        if self.is_end_stream() {
            self.ended(true);
        }
    }
}
