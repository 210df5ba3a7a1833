//! Streams that were given up. What the peer sent before it heard of that is no fault of its own.

use std::collections::VecDeque;

/// Streams that are remembered.
const MOST_REMEMBERED: usize = 256;
/// Streams that we may have to give up for the peer's errors.
const MOST_ERRORS: u32 = 256;
/// Streams that a caller may open and cancel before anybody has a look.
const MOST_UNSEEN: u32 = 200;

#[derive(Default)]
pub struct Resets {
    ours: VecDeque<u32>,
    /// Up to this one, it is not remembered which they were.
    forgotten: u32,
    errors: u32,
    unseen: u32,
    /// Up to this one, some may never have been opened.
    skipped: u32,
}

/// What is known of a stream that is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    GivenUp,
    Ended,
    /// It may be that it never was.
    Skipped,
    Unknown,
}

impl Resets {
    /// A stream was given up here.
    pub fn ours(&mut self, id: u32) {
        if self.ours.len() == MOST_REMEMBERED
            && let Some(oldest) = self.ours.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest);
        }
        self.ours.push_back(id);
    }

    /// What became of a stream that was open.
    pub fn past(&self, id: u32) -> Past {
        if self.ours.contains(&id) {
            Past::GivenUp
        } else if id <= self.forgotten {
            Past::Unknown
        } else if id < self.skipped {
            Past::Skipped
        } else {
            Past::Ended
        }
    }

    /// The peer opened a stream, and the one before it was `last`.
    pub fn opened(&mut self, id: u32, last: u32) {
        if id > last + 2 || (last == 0 && id > 1) {
            self.skipped = id;
        }
    }

    /// A stream was given up for an error of the peer's; whether there were not too many of them.
    pub fn error(&mut self) -> bool {
        self.errors += 1;
        self.errors <= MOST_ERRORS
    }

    /// The peer cancelled a stream before anybody looked at it; whether there were not too many.
    pub fn unseen(&mut self) -> bool {
        self.unseen += 1;
        self.unseen <= MOST_UNSEEN
    }

    /// How many of those there were since the last look.
    pub fn take_unseen(&mut self) -> u32 {
        std::mem::take(&mut self.unseen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered() {
        let mut resets = Resets::default();
        resets.ours(1);
        assert_eq!((resets.past(1), resets.past(3)), (Past::GivenUp, Past::Ended));
        (0..MOST_REMEMBERED as u32).for_each(|turn| resets.ours(5 + 2 * turn));
        assert_eq!((resets.past(1), resets.past(3)), (Past::Unknown, Past::Ended));
        assert_eq!(resets.past(5), Past::GivenUp);
    }

    #[test]
    fn what_was_skipped_may_never_have_been() {
        let mut resets = Resets::default();
        resets.opened(1, 0);
        resets.opened(3, 1);
        assert_eq!(resets.past(1), Past::Ended);
        resets.opened(7, 3);
        assert_eq!((resets.past(5), resets.past(7)), (Past::Skipped, Past::Ended));
    }

    #[test]
    fn only_so_many_are_borne() {
        let mut resets = Resets::default();
        assert!((0..MOST_ERRORS).all(|_| resets.error()) && !resets.error());
        assert!((0..MOST_UNSEEN).all(|_| resets.unseen()) && !resets.unseen());
        assert_eq!((resets.take_unseen(), resets.take_unseen()), (MOST_UNSEEN + 1, 0));
    }
}
