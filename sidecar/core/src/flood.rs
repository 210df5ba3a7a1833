//! How many HTTP/2 frames of little use one connection may send: those that cost the receiver work
//! and the sender next to nothing (CVE-2019-9512, -9513, -9515 and their like).

use std::time::Duration;

/// The client connection preface (RFC 9113 section 3.4).
const PREFACE_BYTES: u32 = 24;
const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// Frames that may come at once.
const BURST: u32 = 5_000;
const FRAMES_A_SECOND: u32 = 1_000;
/// Frames that come with each request: windows, priorities, a ping, a cancellation.
const FRAMES_A_REQUEST: u32 = 10;
/// Frames that come for each `DATA` that was sent: a receiver opens windows as it takes what comes,
/// and some clients ping to learn how much they can take.
const FRAMES_A_DATA: u32 = 10;

/// Reads the frames of one connection as they pass and counts those other than `DATA` and `HEADERS`,
/// which have limits of their own. Looks at nine bytes of each frame; asks for the time only where
/// the budget is used up.
#[derive(Debug)]
pub struct FrameBudget {
    received: FrameScan,
    sent: FrameScan,
    left: u32,
    filled_at: Duration,
}

/// Finds the heads of frames in bytes that come in pieces.
#[derive(Debug)]
struct FrameScan {
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// What is left of the frame, or of the preface.
    skip_bytes: u32,
}

impl Default for FrameBudget {
    fn default() -> Self {
        Self {
            received: FrameScan::behind(PREFACE_BYTES),
            sent: FrameScan::behind(0),
            left: BURST,
            filled_at: Duration::ZERO,
        }
    }
}

impl FrameBudget {
    /// Takes notice of received bytes; false once the budget is used up. `now` is the age of the
    /// connection.
    pub fn received(&mut self, mut bytes: &[u8], now: impl Fn() -> Duration) -> bool {
        let mut in_budget = true;
        while let Some(kind) = self.received.next(&mut bytes) {
            match kind {
                DATA => {}
                HEADERS => self.earn(FRAMES_A_REQUEST),
                _ => {
                    if self.left == 0 {
                        self.fill(now());
                    }
                    match self.left.checked_sub(1) {
                        Some(left) => self.left = left,
                        None => in_budget = false,
                    }
                }
            }
        }
        in_budget
    }

    /// Takes notice of bytes that were sent.
    pub fn sent(&mut self, mut bytes: &[u8]) {
        while let Some(kind) = self.sent.next(&mut bytes) {
            if kind == DATA {
                self.earn(FRAMES_A_DATA);
            }
        }
    }

    fn earn(&mut self, frames: u32) {
        self.left = (self.left + frames).min(BURST);
    }

    fn fill(&mut self, now: Duration) {
        let age = now.saturating_sub(self.filled_at);
        let frames = age.as_millis() * u128::from(FRAMES_A_SECOND) / 1000;
        self.earn(u32::try_from(frames).unwrap_or(BURST).min(BURST));
        self.filled_at = now;
    }
}

impl FrameScan {
    fn behind(skip_bytes: u32) -> Self {
        Self { head: [0; HEAD_BYTES], head_bytes: 0, skip_bytes }
    }

    /// The type of the next frame whose head is complete; takes off the bytes that it looked at.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<u8> {
        let skipped = bytes.len().min(self.skip_bytes as usize);
        self.skip_bytes -= skipped as u32;
        let rest = &bytes[skipped..];
        let taken = rest.len().min(HEAD_BYTES - self.head_bytes);
        self.head[self.head_bytes..self.head_bytes + taken].copy_from_slice(&rest[..taken]);
        self.head_bytes += taken;
        *bytes = &rest[taken..];
        if self.head_bytes < HEAD_BYTES {
            return None;
        }
        self.head_bytes = 0;
        let [a, b, c, kind, ..] = self.head;
        self.skip_bytes = u32::from_be_bytes([0, a, b, c]);
        Some(kind)
    }
}

/// Whether a caller opens streams only to cancel them (CVE-2023-44487): of many, more than half.
#[derive(Debug, Default)]
pub struct ResetRatio {
    opened: u32,
    cancelled_early: u32,
}

impl ResetRatio {
    /// Streams before anything is decided.
    const LEAST: u32 = 500;
    /// A stream that is cancelled later than this was wanted.
    pub const EARLY: Duration = Duration::from_secs(1);

    /// A stream was opened.
    pub fn opened(&mut self) {
        self.opened = self.opened.saturating_add(1);
    }

    /// A stream was cancelled at this age; whether the connection is to be closed.
    pub fn cancelled(&mut self, age: Duration) -> bool {
        if age < Self::EARLY {
            self.cancelled_early = self.cancelled_early.saturating_add(1);
        }
        self.opened >= Self::LEAST && self.cancelled_early > self.opened / 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let mut frame = (length as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, 0, 0, 0, 0, 0]);
        frame.resize(HEAD_BYTES + length, 0xff);
        frame
    }

    fn connection(frames: &[u8]) -> Vec<u8> {
        [&[b'P'; PREFACE_BYTES as usize], frames].concat()
    }

    #[test]
    fn a_flood_ends_and_a_second_later_there_is_room_again() {
        let mut budget = FrameBudget::default();
        let at = |millis| move || Duration::from_millis(millis);
        assert!(budget.received(&connection(&frame(PING, 8).repeat(BURST as usize)), at(0)));
        assert!(!budget.received(&frame(PING, 8), at(0)));
        assert!(budget.received(&frame(PING, 8).repeat(1000), at(1000)));
        assert!(!budget.received(&frame(PING, 8), at(1000)));
    }

    #[test]
    fn requests_and_what_is_sent_make_room() {
        let now = || Duration::ZERO;
        let mut budget = FrameBudget::default();
        let flood = connection(&frame(PING, 8).repeat(BURST as usize));
        assert!(budget.received(&flood, now));
        assert!(budget.received(&frame(HEADERS, 100), now));
        assert!(budget.received(&frame(PING, 8).repeat(10), now));
        budget.sent(&frame(PING, 8));
        for piece in frame(DATA, 100).chunks(7) {
            budget.sent(piece);
        }
        assert!(budget.received(&frame(PING, 8).repeat(10), now));
        assert!(!budget.received(&frame(PING, 8), now));
    }

    #[test]
    fn data_is_not_counted() {
        let mut budget = FrameBudget::default();
        let data = connection(&frame(DATA, 1).repeat(3 * BURST as usize));
        assert!(budget.received(&data, || Duration::ZERO));
    }

    #[test]
    fn many_early_cancellations_are_an_attack_and_late_ones_are_not() {
        let mut ratio = ResetRatio::default();
        for i in 1..=2000 {
            ratio.opened();
            assert!(!ratio.cancelled(ResetRatio::EARLY), "{i}");
        }
        let mut ratio = ResetRatio::default();
        let closed = (1..=2000).find(|_| {
            ratio.opened();
            ratio.cancelled(Duration::ZERO)
        });
        assert_eq!(closed, Some(500));
    }

    proptest! {
        /// However the network cuts the bytes, the same frames are counted.
        #[test]
        fn cuts_do_not_matter(
            frames in prop::collection::vec((0u8..=9, 0usize..40), 0..40),
            cuts in prop::collection::vec(1usize..60, 1..20),
        ) {
            let frames = frames.iter().flat_map(|&(kind, length)| frame(kind, length));
            let bytes = connection(&frames.collect::<Vec<u8>>());
            let (mut whole, mut cut) = (FrameBudget::default(), FrameBudget::default());
            prop_assert!(whole.received(&bytes, || Duration::ZERO));
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                prop_assert!(cut.received(piece, || Duration::ZERO));
                rest = after;
            }
            prop_assert_eq!(whole.left, cut.left);
        }
    }
}
