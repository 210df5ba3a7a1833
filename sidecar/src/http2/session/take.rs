//! What those who hold streams take of what came.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};

use super::{Left, Session, StreamError, note};

impl Session {
    /// The head of the answer.
    pub fn poll_head(
        &mut self,
        key: u32,
        context: &Context<'_>,
    ) -> Poll<Result<Response<()>, StreamError>> {
        let Some(stream) = self.streams.get(key) else {
            return Poll::Ready(Err(StreamError::Closed));
        };
        if let Some(head) = stream.head.take() {
            return Poll::Ready(Ok(*head));
        }
        if let Some(error) = stream.error {
            return Poll::Ready(Err(error));
        }
        note(&mut stream.receive_waker, context);
        Poll::Pending
    }

    /// The next piece of the body; none where only trailers are left, or nothing.
    pub fn poll_data(
        &mut self,
        key: u32,
        context: &Context<'_>,
    ) -> Poll<Option<Result<Bytes, StreamError>>> {
        let Some(stream) = self.streams.get(key) else {
            return Poll::Ready(Some(Err(StreamError::Closed)));
        };
        let mut piece = std::mem::take(&mut stream.first);
        if piece.is_empty() && !stream.rest.is_empty() {
            piece = std::mem::take(&mut stream.rest).freeze();
        }
        if !piece.is_empty() {
            self.taken(key, piece.len());
            return Poll::Ready(Some(Ok(piece)));
        }
        if stream.receiving == Left::Nothing {
            return Poll::Ready(None);
        }
        if let Some(error) = stream.error {
            return Poll::Ready(Some(Err(error)));
        }
        note(&mut stream.receive_waker, context);
        Poll::Pending
    }

    /// The trailers, once there are no more pieces.
    pub fn take_trailers(&mut self, key: u32) -> Option<HeaderMap> {
        self.streams.get(key)?.trailers.take().map(|trailers| *trailers)
    }

    /// Whether all that the peer sent was taken.
    pub fn is_end(&mut self, key: u32) -> bool {
        self.streams.get(key).is_none_or(|stream| {
            stream.receiving == Left::Nothing
                && stream.first.is_empty()
                && stream.rest.is_empty()
                && stream.trailers.is_none()
        })
    }
}
