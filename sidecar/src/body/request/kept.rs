//! A request's body that can be sent again: what has passed is kept, up to a bound, and what has not
//! is still to come.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use super::{BodyError, RequestBody};

/// A body of which more has passed cannot be sent again.
const MOST_KEPT_BYTES: usize = 64 * 1024;

/// A body from its beginning, for one attempt.
pub struct Kept {
    passing: Rc<RefCell<Passing>>,
    /// The piece that comes next.
    next: usize,
}

/// What all attempts share. Only the last one reads.
struct Passing {
    body: RequestBody,
    pieces: Vec<Piece>,
    bytes: usize,
    /// Whether the beginning is gone.
    lost: bool,
}

#[derive(Clone)]
enum Piece {
    Chunk(Bytes),
    Trailers(HeaderMap),
}

impl Kept {
    /// Keeps what passes of a body.
    pub fn new(body: RequestBody) -> Self {
        let passing = Passing { body, pieces: Vec::new(), bytes: 0, lost: false };
        Self { passing: Rc::new(RefCell::new(passing)), next: 0 }
    }

    /// The body once more, from its beginning.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { passing: Rc::clone(&self.passing), next: 0 }
    }

    /// Whether its beginning is gone.
    pub fn is_lost(&self) -> bool {
        self.passing.borrow().lost
    }

    /// The next chunk, then the trailers.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let passing = &mut *self.passing.borrow_mut();
        if let Some(piece) = passing.pieces.get(self.next) {
            self.next += 1;
            return Poll::Ready(Some(Ok(piece.clone().into())));
        }
        let Some(frame) = ready!(Pin::new(&mut passing.body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let frame = frame.inspect_err(|_| passing.lost = true)?;
        passing.keep(&frame);
        self.next = passing.pieces.len();
        Poll::Ready(Some(Ok(frame)))
    }

    /// Whether all of it was taken.
    pub fn is_end(&self) -> bool {
        let passing = self.passing.borrow();
        self.next >= passing.pieces.len() && passing.body.is_end_stream()
    }

    /// What is known of the length.
    pub fn size_hint(&self) -> SizeHint {
        let passing = self.passing.borrow();
        let ahead = passing.pieces.iter().skip(self.next).map(|piece| match piece {
            Piece::Chunk(bytes) => bytes.len() as u64,
            Piece::Trailers(_) => 0,
        });
        let (ahead, rest) = (ahead.sum::<u64>(), passing.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + ahead);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ahead);
        }
        hint
    }
}

impl Passing {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        self.bytes += frame.data_ref().map_or(0, Bytes::len);
        if self.bytes > MOST_KEPT_BYTES {
            self.lost = true;
            self.pieces = Vec::new();
        }
        if self.lost {
            return;
        }
        if let Some(bytes) = frame.data_ref() {
            self.pieces.push(Piece::Chunk(bytes.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            self.pieces.push(Piece::Trailers(trailers.clone()));
        }
    }
}

impl From<Piece> for Frame<Bytes> {
    fn from(piece: Piece) -> Self {
        match piece {
            Piece::Chunk(bytes) => Frame::data(bytes),
            Piece::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn rest(kept: &mut Kept) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(frame) = poll_fn(|context| kept.poll_next(context)).await {
            all.extend_from_slice(frame.unwrap().data_ref().unwrap());
        }
        all
    }

    #[tokio::test]
    async fn a_body_is_the_same_each_time() {
        let mut first = Kept::new(RequestBody::Whole(Bytes::from_static(b"question")));
        assert_eq!(first.size_hint().exact(), Some(8));
        let mut second = first.again();
        assert_eq!(rest(&mut first).await, b"question");
        assert!(first.is_end() && !second.is_end() && !second.is_lost());
        assert_eq!(second.size_hint().exact(), Some(8));
        assert_eq!(rest(&mut second).await, b"question");
        assert_eq!(second.size_hint().exact(), Some(0));
    }

    #[tokio::test]
    async fn a_large_body_passes_once() {
        let large = Bytes::from(vec![7; MOST_KEPT_BYTES + 1]);
        let mut kept = Kept::new(RequestBody::Whole(large.clone()));
        assert_eq!(rest(&mut kept).await, large);
        assert!(kept.is_end() && kept.again().is_lost());
    }
}
