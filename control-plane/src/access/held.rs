//! The body of an answer that lasts: it holds the caller's place, and ends when its rights do.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Extensions, HeaderMap};
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::crowd::Place;
use super::list::{AccessList, Entry};

/// A body and what goes with it.
pub struct Held {
    body: Body,
    #[allow(dead_code, reason = "held for its drop")]
    place: Place,
    rights: Option<Rights>,
    ended: bool,
}

/// What a caller was let in with, also in the extensions of its request.
#[derive(Clone)]
pub struct Rights {
    pub(super) entry: Entry,
    /// The list that was asked last.
    pub(super) seen: Arc<AccessList>,
    pub(super) list: Arc<ArcSwap<AccessList>>,
}

impl Held {
    pub fn new(body: Body, place: Place, rights: Option<Rights>) -> Self {
        Self { body, place, rights, ended: false }
    }
}

impl Rights {
    /// Asks again, before something is done that a call has led up to for long.
    pub fn confirm(extensions: &Extensions) -> Result<(), Status> {
        let rights = extensions.get::<Self>().cloned();
        if rights.is_none_or(|mut rights| rights.hold()) { Ok(()) } else { Err(changed()) }
    }

    /// Whether they are what they were. Asked before each message, so that nothing is told to
    /// somebody whose token is no longer valid.
    fn hold(&mut self) -> bool {
        let now = self.list.load();
        if Arc::ptr_eq(&now, &self.seen) {
            return true;
        }
        let holds = now.still_holds(&self.entry);
        if holds {
            self.seen = Arc::clone(&now);
        }
        holds
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let Poll::Ready(Some(Ok(_))) = &polled else { return polled };
        if self.rights.as_mut().is_none_or(Rights::hold) {
            return polled;
        }
        self.ended = true;
        let mut trailers = HeaderMap::new();
        let told = changed().add_header(&mut trailers).map(|()| Frame::trailers(trailers));
        Poll::Ready(Some(told))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn changed() -> Status {
    Status::unauthenticated("the rights of this caller have changed: call again")
}
