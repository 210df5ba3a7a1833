//! What waits to be sent on a connection, in its order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite;

/// A piece up to this size is copied behind what goes before it: one `send` of both is cheaper than
/// a gathering write.
const JOINED_BYTES: usize = 4 * 1024;
/// What may wait to go before it must have gone.
const MOST_WAITING_BYTES: usize = 64 * 1024;
/// Pieces that one `sendmsg` takes.
const MOST_SLICES: usize = 16;
/// What has gone of a page is forgotten when it is so much.
const MOST_GONE_BYTES: usize = 64 * 1024;
/// Pages kept by one worker, and the largest one that is.
const MOST_PAGES: usize = 8;
const MOST_PAGE_BYTES: usize = 128 * 1024;

thread_local! {
    static PAGES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// The frames that wait. Holds memory only for bytes that are on their way.
#[derive(Default)]
pub struct Out {
    /// Heads of frames, and small pieces.
    page: Vec<u8>,
    /// How much of the page has gone.
    gone: usize,
    /// Large pieces.
    pieces: VecDeque<Piece>,
    waiting: usize,
}

struct Piece {
    /// What of the page goes before it.
    at: usize,
    bytes: Bytes,
}

impl Out {
    /// The page, to write frames on.
    pub fn write<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        if self.page.capacity() == 0 {
            self.page = PAGES.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        let before = self.page.len();
        let written = write(&mut self.page);
        self.waiting += self.page.len() - before;
        written
    }

    /// Gives a piece of a body.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() <= JOINED_BYTES {
            self.write(|page| page.extend_from_slice(&bytes));
        } else {
            self.waiting += bytes.len();
            self.pieces.push_back(Piece { at: self.page.len(), bytes });
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// How much waits.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How much more of bodies may be given before some has gone.
    pub fn room(&self) -> usize {
        MOST_WAITING_BYTES.saturating_sub(self.waiting)
    }

    /// Sends until all has gone, out of what stands before the system as well.
    pub fn poll_flush(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.waiting > 0 {
            let mut io = Pin::new(&mut *io);
            let sent = if self.pieces.is_empty() {
                ready!(io.as_mut().poll_write(context, &self.page[self.gone..]))?
            } else {
                let mut slices = [IoSlice::new(&[]); MOST_SLICES];
                let count = self.slices(&mut slices);
                ready!(io.as_mut().poll_write_vectored(context, &slices[..count]))?
            };
            if sent == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.advance(sent);
        }
        self.release();
        Pin::new(io).poll_flush(context)
    }

    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MOST_SLICES]) -> usize {
        let (mut at, mut count) = (self.gone, 0);
        for piece in self.pieces.iter().take(MOST_SLICES / 2 - 1) {
            if piece.at > at {
                slices[count] = IoSlice::new(&self.page[at..piece.at]);
                count += 1;
                at = piece.at;
            }
            slices[count] = IoSlice::new(&piece.bytes);
            count += 1;
        }
        if self.pieces.len() < MOST_SLICES / 2 && at < self.page.len() {
            slices[count] = IoSlice::new(&self.page[at..]);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut sent: usize) {
        self.waiting -= sent;
        while sent > 0 {
            let before = self.pieces.front().map_or(self.page.len(), |piece| piece.at);
            let of_page = sent.min(before - self.gone);
            self.gone += of_page;
            sent -= of_page;
            if sent > 0
                && let Some(piece) = self.pieces.front_mut()
            {
                let of_piece = sent.min(piece.bytes.len());
                piece.bytes.advance(of_piece);
                sent -= of_piece;
                if piece.bytes.is_empty() {
                    self.pieces.pop_front();
                }
            }
        }
        if self.gone >= MOST_GONE_BYTES {
            self.page.drain(..self.gone);
            for piece in &mut self.pieces {
                piece.at -= self.gone;
            }
            self.gone = 0;
        }
    }

    /// Gives the page back.
    fn release(&mut self) {
        self.gone = 0;
        let mut page = std::mem::take(&mut self.page);
        page.clear();
        if (1..=MOST_PAGE_BYTES).contains(&page.capacity()) {
            PAGES.with_borrow_mut(|free| {
                if free.len() < MOST_PAGES {
                    free.push(page);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn what_waits_goes_in_its_order_however_little_the_socket_takes() {
        for width in [1, 7, 1000, 1_000_000] {
            let (mut ours, mut theirs) = duplex(width);
            let mut out = Out::default();
            let mut expected = Vec::new();
            for turn in 0..60u32 {
                let head = turn.to_be_bytes();
                out.write(|page| page.extend_from_slice(&head));
                let piece = vec![turn as u8; 331 * turn as usize];
                expected.extend_from_slice(&head);
                expected.extend_from_slice(&piece);
                out.push(piece.into());
            }
            let sending = async {
                poll_fn(|context| out.poll_flush(&mut ours, context)).await.unwrap();
                assert!(out.is_empty() && out.room() == MOST_WAITING_BYTES);
                drop(ours);
            };
            let mut all = Vec::new();
            let ((), read) = tokio::join!(sending, theirs.read_to_end(&mut all));
            read.unwrap();
            assert!(all == expected, "{width}");
        }
    }
}
