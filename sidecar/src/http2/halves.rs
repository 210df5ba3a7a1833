//! What requests hold of a stream.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use segue_sidecar_core::http2::Reason;

use super::session::Shared;
use super::stream::StreamError;

/// The half of a stream that comes. Dropped before its end, the peer hears that the rest is not
/// wanted.
pub struct Receiver {
    session: Shared,
    key: u32,
}

/// The half of a stream that goes. Dropped before its end, the stream is given up.
pub struct Sender {
    session: Shared,
    key: u32,
}

impl Receiver {
    pub(super) fn new(session: &Shared, key: u32) -> Self {
        Self { session: Rc::clone(session), key }
    }

    /// The head of the answer; once, and only of a stream that was opened here.
    pub fn poll_head(&mut self, context: &Context<'_>) -> Poll<Result<Response<()>, StreamError>> {
        self.session.borrow_mut().poll_head(self.key, context)
    }

    /// The next piece of the body; `None` behind the last one. The window opens again by as much.
    pub fn poll_data(&mut self, context: &Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        self.session.borrow_mut().poll_data(self.key, context)
    }

    /// The trailers, once there are no more pieces; `None` where there are none, or they were taken.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.session.borrow_mut().take_trailers(self.key)
    }

    /// Whether all of it was taken.
    pub fn is_end(&self) -> bool {
        self.session.borrow_mut().is_end(self.key)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.session.borrow_mut().drop_receiver(self.key);
    }
}

impl Sender {
    pub(super) fn new(session: &Shared, key: u32) -> Self {
        Self { session: Rc::clone(session), key }
    }

    /// Begins the answer; once, and only of a stream that the peer opened.
    pub fn send_response(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        ends: bool,
    ) -> Result<(), StreamError> {
        self.session.borrow_mut().send_response(self.key, status, headers, ends)
    }

    /// How many bytes may be sent now; waits until it is at least one.
    pub fn poll_room(&mut self, context: &Context<'_>) -> Poll<Result<usize, StreamError>> {
        self.session.borrow_mut().poll_room(self.key, context)
    }

    /// Sends a piece that is not larger than the room that there is.
    pub fn send_data(&mut self, piece: Bytes, ends: bool) -> Result<(), StreamError> {
        self.session.borrow_mut().send_data(self.key, piece, ends)
    }

    /// Ends the body with trailers.
    pub fn send_trailers(&mut self, trailers: &HeaderMap) -> Result<(), StreamError> {
        self.session.borrow_mut().send_trailers(self.key, trailers)
    }

    /// Gives the stream up.
    pub fn reset(&mut self, reason: Reason) {
        self.session.borrow_mut().reset(self.key, reason);
    }

    /// Ready when the stream was ended before its end.
    pub fn poll_reset(&mut self, context: &Context<'_>) -> Poll<StreamError> {
        self.session.borrow_mut().poll_reset(self.key, context)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.session.borrow_mut().drop_sender(self.key);
    }
}
