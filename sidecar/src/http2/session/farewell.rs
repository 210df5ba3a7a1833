//! Whether the peer is there, and how a connection ends.

use std::task::{Context, Poll};

use segue_sidecar_core::http2::{FrameHead, Reason, kind};

use super::{ALIVE, Farewell, HEARD, LAST_STREAM, Session, StreamError, note};

impl Session {
    /// Asks whether the peer is there.
    pub fn ping(&mut self) {
        let head = FrameHead { length: ALIVE.len(), kind: kind::PING, flags: 0, stream: 0 };
        self.write_frame(head, &ALIVE);
    }

    /// Ready when more questions than `before` were answered, or the connection is over.
    pub fn poll_pong(&mut self, before: u64, context: &Context<'_>) -> Poll<()> {
        if self.answers_to_pings > before || self.ended {
            return Poll::Ready(());
        }
        note(&mut self.ping_waker, context);
        Poll::Pending
    }

    /// Questions that were answered.
    pub fn pongs(&self) -> u64 {
        self.answers_to_pings
    }

    /// Tells the peer that no more streams are taken, but for those that are on their way.
    pub fn announce_end(&mut self) {
        if self.farewell == Farewell::No && !self.ended {
            self.farewell = Farewell::Announced;
            self.write_goaway(LAST_STREAM, Reason::NO_ERROR);
            let head = FrameHead { length: HEARD.len(), kind: kind::PING, flags: 0, stream: 0 };
            self.write_frame(head, &HEARD);
        }
    }

    /// Nobody opens streams any more: once those that run have ended, all has.
    pub fn abandon(&mut self) {
        self.abandoned = true;
        if !self.ended {
            self.write_goaway(0, Reason::NO_ERROR);
        }
    }

    /// Ends all at once. The peer is told why.
    pub fn end(&mut self, reason: Reason) {
        if !self.ended {
            self.write_goaway(self.last_peer, reason);
            self.fail_all();
        }
    }

    /// The connection is gone.
    pub fn fail_all(&mut self) {
        self.ended = true;
        self.arrived.clear();
        for stream in self.streams.each() {
            stream.fail(StreamError::Closed);
            stream.counts = false;
        }
        self.open = 0;
        if let Some(waker) = self.ping_waker.take() {
            waker.wake();
        }
    }

    pub(super) fn write_goaway(&mut self, last: u32, reason: Reason) {
        let head = FrameHead { length: 8, kind: kind::GOAWAY, flags: 0, stream: 0 };
        let payload = u64::from(last) << 32 | u64::from(reason.0);
        self.write_frame(head, &payload.to_be_bytes());
    }
}
