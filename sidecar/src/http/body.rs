//! Bodies of answers, on their way through one chunk at a time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::body::BodyError;
use crate::deadline::Deadline;
use crate::http1::{AnswerBody, Pipe, PipedBody, TunnelEnd};
use crate::outcome::Outcome;
use crate::upstream::{Http1Body, Http2Body, Running};

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

impl ResponseSource {
    /// Whether the connection that it comes from speaks another protocol from now on.
    pub fn has_switched(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(_) => false,
            Self::Http1(body) => body.has_switched(),
            Self::Http2(body) => body.has_switched(),
        }
    }
}

/// An answer's body, which ends the request's outcome with itself.
pub struct ResponseBody {
    source: ResponseSource,
    limits: Option<Limits>,
    outcome: Option<Outcome>,
    /// Counts the request on its endpoint.
    at: Option<Running>,
    /// It became a tunnel, which is complete whenever it ends.
    switched: bool,
}

/// How long an answer may take.
pub struct Limits {
    /// The end of all of it.
    pub whole: Deadline,
    /// The end of the time without a byte; it begins anew with each one.
    pub idle: Deadline,
    pub idle_timeout: Option<Duration>,
    /// Whether the caller reads `grpc-status`, also of an answer that breaks off.
    pub grpc: bool,
}

impl Limits {
    fn poll(&mut self, context: &Context<'_>) -> Option<BodyError> {
        if self.whole.poll(context).is_ready() {
            return Some(BodyError::Timeout);
        }
        let timeout = self.idle_timeout?;
        if self.idle.moment().is_none() {
            self.idle.reset(Instant::now().checked_add(timeout));
        }
        self.idle.poll(context).is_ready().then_some(BodyError::Idle)
    }
}

impl ResponseBody {
    /// A body that no outcome depends on.
    pub fn of(source: ResponseSource) -> Self {
        Self { source, limits: None, outcome: None, at: None, switched: false }
    }

    /// A body whose end is the end of the request.
    pub fn tracked(
        source: ResponseSource,
        limits: Limits,
        mut outcome: Outcome,
        at: Running,
    ) -> Self {
        let over = matches!(source, ResponseSource::Empty);
        if over {
            outcome.end(true);
        }
        let limited = limits.whole.moment().is_some() || limits.idle_timeout.is_some();
        Self {
            source,
            limits: (limited && !over).then_some(limits),
            outcome: Some(outcome),
            at: (!over).then_some(at),
            switched: false,
        }
    }

    /// A piece came.
    fn came(&mut self) {
        if self.is_end_stream() {
            self.ended(true);
        } else if let Some(limits) = &mut self.limits {
            limits.idle.reset(None);
        }
    }

    fn ended(&mut self, complete: bool) {
        if let Some(outcome) = &mut self.outcome {
            outcome.end(complete);
            self.at = None;
        }
    }

    /// The end of an answer that took too long.
    fn cut(&mut self, error: BodyError) -> Result<Frame<Bytes>, BodyError> {
        self.ended(false);
        self.source = ResponseSource::Empty;
        if self.limits.take().is_some_and(|limits| limits.grpc) {
            // DEADLINE_EXCEEDED, as a server would have ended it.
            return Ok(Frame::trailers(HeaderMap::from_iter([(
                HeaderName::from_static("grpc-status"),
                HeaderValue::from_static("4"),
            )])));
        }
        Err(error)
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
            Poll::Ready(Some(Ok(_))) => self.came(),
            Poll::Ready(Some(Err(_))) => self.ended(false),
            Poll::Pending => {
                let late = self.limits.as_mut().and_then(|limits| limits.poll(context));
                if let Some(error) = late {
                    return Poll::Ready(Some(self.cut(error)));
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

impl PipedBody for ResponseBody {
    fn fill(&mut self, pipe: &mut Pipe) -> bool {
        let ResponseSource::Http1(body) = &mut self.source else { return false };
        let filled = body.fill(pipe);
        if filled {
            self.came();
        }
        filled
    }
}

impl AnswerBody for ResponseBody {
    fn carry_on(&mut self, context: &mut Context<'_>) {
        match &mut self.source {
            ResponseSource::Empty | ResponseSource::Whole(_) => {}
            ResponseSource::Http1(body) => body.carry_on(context),
            ResponseSource::Http2(body) => body.carry_on(context),
        }
    }

    fn tunnel(&mut self) -> Option<&mut dyn TunnelEnd> {
        let tunnel = match &mut self.source {
            ResponseSource::Empty | ResponseSource::Whole(_) => None,
            ResponseSource::Http1(body) => body.tunnel(),
            ResponseSource::Http2(body) => body.tunnel(),
        };
        self.switched = tunnel.is_some();
        tunnel
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A codec that knows the end from the length does not ask for it.
        if self.switched || self.is_end_stream() {
            self.ended(true);
        }
    }
}
