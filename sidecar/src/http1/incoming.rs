//! The body of a message on its way in.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use segue_sidecar_core::http1::{BodyLength, ChunkDecoder, ChunkError, Chunked};
use thiserror::Error;

use super::pipe::{PIPED_BYTES, Pipe};
use super::wire::{SMALL_READ_BYTES, Wire, room_for};

/// A body that broke off.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the connection was closed within a body")]
    Closed,
    #[error("{0}")]
    Malformed(#[from] ChunkError),
    #[error("the message that the body belongs to is over")]
    Over,
    #[error("the body of the request broke off: {0}")]
    Upload(Box<dyn std::error::Error + Send + Sync>),
}

/// What is still to come of a body.
pub enum Incoming {
    Ended,
    Known(u64),
    Chunked {
        decoder: ChunkDecoder,
        /// Grows while the peer fills what it is given.
        room: usize,
    },
    UntilClose,
}

impl Incoming {
    pub fn new(length: BodyLength) -> Self {
        match length {
            BodyLength::None => Self::Ended,
            BodyLength::Known(length) => Self::Known(length),
            BodyLength::Chunked => {
                Self::Chunked { decoder: ChunkDecoder::default(), room: SMALL_READ_BYTES }
            }
            BodyLength::UntilClose => Self::UntilClose,
        }
    }

    /// Whether all of it was taken.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// Whether what is left may be at most `most` bytes.
    pub fn is_within(&self, most: u64) -> bool {
        match self {
            Self::Known(left) => *left <= most,
            // Of chunks nobody knows, but the reader counts.
            Self::Ended | Self::Chunked { .. } => true,
            Self::UntilClose => false,
        }
    }

    /// What is known of the length.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ended => SizeHint::with_exact(0),
            Self::Known(left) => SizeHint::with_exact(*left),
            Self::Chunked { .. } | Self::UntilClose => SizeHint::default(),
        }
    }

    /// The next piece, then the trailers if there are any.
    pub fn poll_next(
        &mut self,
        wire: &mut Wire,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        loop {
            match self.take(wire) {
                Ok(Taken::Piece(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Ok(Taken::End(trailers)) if trailers.is_empty() => return Poll::Ready(None),
                Ok(Taken::End(trailers)) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Taken::More(room)) => match ready!(wire.poll_receive(context, room)) {
                    Ok(0) if matches!(self, Self::UntilClose) => *self = Self::Ended,
                    Ok(0) => return Poll::Ready(Some(Err(ReadError::Closed))),
                    Ok(received) => self.received(received),
                    Err(error) => return Poll::Ready(Some(Err(error.into()))),
                },
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// Fills a pipe with the next piece of a large body whose length is known; whether anything came.
    pub fn fill(&mut self, wire: &mut Wire, pipe: &mut Pipe) -> bool {
        let Self::Known(left) = self else { return false };
        if *left < PIPED_BYTES {
            return false;
        }
        let filled = wire.fill(pipe, *left);
        *left -= filled as u64;
        if *left == 0 {
            *self = Self::Ended;
        }
        filled > 0
    }

    fn take(&mut self, wire: &mut Wire) -> Result<Taken, ChunkError> {
        let bytes = &mut wire.received;
        match self {
            Self::Ended => Ok(Taken::End(HeaderMap::new())),
            Self::Known(left) => {
                if bytes.is_empty() {
                    return Ok(Taken::More(room_for(*left)));
                }
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= length as u64;
                if *left == 0 {
                    *self = Self::Ended;
                }
                Ok(Taken::Piece(bytes.split_to(length).freeze()))
            }
            Self::UntilClose if bytes.is_empty() => Ok(Taken::More(room_for(u64::MAX))),
            Self::UntilClose => Ok(Taken::Piece(bytes.split().freeze())),
            Self::Chunked { decoder, room } => match decoder.decode(bytes)? {
                Chunked::More => Ok(Taken::More(*room)),
                Chunked::Data(piece) => {
                    // An end that came along is noticed now: whoever sends this piece on can say
                    // in the same breath that it was the last.
                    if bytes.starts_with(b"\r\n0\r\n\r\n") {
                        decoder.decode(bytes)?;
                        *self = Self::Ended;
                    }
                    Ok(Taken::Piece(piece))
                }
                Chunked::End(trailers) => {
                    *self = Self::Ended;
                    Ok(Taken::End(trailers))
                }
            },
        }
    }

    fn received(&mut self, bytes: usize) {
        if let Self::Chunked { room, .. } = self {
            let next = if bytes >= *room { *room * 4 } else { bytes };
            *room = room_for(next as u64);
        }
    }
}

enum Taken {
    Piece(Bytes),
    /// Empty where there are no trailers.
    End(HeaderMap),
    /// So much room is wanted.
    More(usize),
}
