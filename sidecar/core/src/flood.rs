//! How many HTTP/2 frames of little use one connection may send: those that cost the receiver work
//! and the sender next to nothing (CVE-2019-9512, -9513, -9515 and their like).

use std::time::Duration;

/// Frames that may come at once.
const BURST: u32 = 5_000;
const FRAMES_A_SECOND: u32 = 1_000;
/// Frames that come with each request: windows, priorities, a ping, a cancellation.
const FRAMES_A_REQUEST: u32 = 10;
/// Frames that come for each `DATA` that was sent: a receiver opens windows as it takes what comes,
/// and some clients ping to learn how much they can take.
const FRAMES_A_DATA: u32 = 10;

/// Counts the frames of one connection other than `DATA` and `HEADERS`, which have limits of their
/// own, but for those that hold nothing. Asks for the time only where the budget is used up.
#[derive(Debug)]
pub struct FrameBudget {
    left: u32,
    filled_at: Duration,
}

impl Default for FrameBudget {
    fn default() -> Self {
        Self { left: BURST, filled_at: Duration::ZERO }
    }
}

impl FrameBudget {
    /// Takes notice of `HEADERS` that came.
    pub fn received_headers(&mut self) {
        self.earn(FRAMES_A_REQUEST);
    }

    /// Takes notice of another frame that came, or of one without content; false once the budget is
    /// used up. `now` is the age of the connection.
    pub fn received_other(&mut self, now: impl Fn() -> Duration) -> bool {
        if self.left == 0 {
            self.fill(now());
        }
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return false,
        }
        true
    }

    /// Takes notice of `DATA` that is sent.
    pub fn sent_data(&mut self) {
        self.earn(FRAMES_A_DATA);
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
    use super::*;

    fn all_in_budget(budget: &mut FrameBudget, count: u32, millis: u64) -> bool {
        (0..count).all(|_| budget.received_other(|| Duration::from_millis(millis)))
    }

    #[test]
    fn a_flood_ends_and_a_second_later_there_is_room_again() {
        let mut budget = FrameBudget::default();
        assert!(all_in_budget(&mut budget, BURST, 0));
        assert!(!all_in_budget(&mut budget, 1, 0));
        assert!(all_in_budget(&mut budget, 1000, 1000));
        assert!(!all_in_budget(&mut budget, 1, 1000));
    }

    #[test]
    fn requests_and_what_is_sent_make_room() {
        let mut budget = FrameBudget::default();
        assert!(all_in_budget(&mut budget, BURST, 0));
        budget.received_headers();
        assert!(all_in_budget(&mut budget, 10, 0));
        budget.sent_data();
        assert!(all_in_budget(&mut budget, 10, 0));
        assert!(!all_in_budget(&mut budget, 1, 0));
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
}
