//! Bodies of answers, on their way through one chunk at a time.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::body::BodyError;
use crate::deadline::Deadline;
use crate::http1::{AnswerBody, Wire};
use crate::outcome::Outcome;
use crate::upstream::{Http1Body, Http2Body};

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
        matches!(self, Self::Http1(body) if body.has_switched())
    }
}

/// An answer's body, which ends the request's outcome with itself.
pub struct ResponseBody {
    source: ResponseSource,
    deadline: Option<Deadline>,
    outcome: Option<Outcome>,
    /// It became a tunnel, which is complete whenever it ends.
    switched: bool,
}

impl ResponseBody {
    /// A body that no outcome depends on.
    pub fn of(source: ResponseSource) -> Self {
        Self { source, deadline: None, outcome: None, switched: false }
    }

    /// A body whose end is the end of the request.
    pub fn tracked(source: ResponseSource, deadline: Deadline, mut outcome: Outcome) -> Self {
        if matches!(source, ResponseSource::Empty) {
            outcome.end(true);
        }
        let deadline = deadline.moment().is_some().then_some(deadline);
        Self { source, deadline, outcome: Some(outcome), switched: false }
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

impl AnswerBody for ResponseBody {
    fn carry_on(&mut self, context: &mut Context<'_>) {
        match &mut self.source {
            ResponseSource::Empty | ResponseSource::Whole(_) => {}
            ResponseSource::Http1(body) => body.carry_on(context),
            ResponseSource::Http2(body) => body.carry_on(context),
        }
    }

    fn tunnel(&mut self) -> Option<&mut Wire> {
        let ResponseSource::Http1(body) = &mut self.source else { return None };
        let tunnel = body.tunnel();
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
