//! How well the log is followed, and what is made of an answer that tells of less than is known.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// A member that lags, or that slept, may once show what was (etcd #20418): that is no reason to
/// stop. It is one when another member says the same after this time,
const ANOTHER_AFTER: Duration = Duration::from_secs(3);
/// or the same one after this, where no other answers.
const THE_SAME_AFTER: Duration = Duration::from_secs(30);

/// How well the log is followed.
#[derive(Clone, Debug)]
pub struct Following {
    /// When etcd last said what is newest.
    pub heard: Instant,
    /// Whether it cannot be reached.
    pub lost: bool,
    /// Why it is not followed any more, for good.
    pub stopped: Option<Arc<str>>,
}

/// An answer that tells of an older revision than is known, or of another store.
#[derive(Clone, Copy, Debug)]
pub struct Doubt {
    since: Instant,
    /// Who gave it.
    member: u64,
}

impl Following {
    /// From now on.
    pub fn begun() -> Self {
        Self { heard: Instant::now(), lost: false, stopped: None }
    }

    /// Whether what etcd holds arrives here.
    pub fn is_up(&self) -> bool {
        !self.lost && self.stopped.is_none()
    }
}

impl Doubt {
    pub fn new(member: u64, now: Instant) -> Self {
        Self { since: now, member }
    }

    /// Whether a second such answer leaves no doubt. `alone`: there is no other member to ask.
    pub fn is_settled(&self, member: u64, alone: bool, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.since);
        let other = alone || member != self.member;
        age >= if other { ANOTHER_AFTER } else { THE_SAME_AFTER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_is_not_enough_and_another_member_is_believed_sooner() {
        let now = Instant::now();
        let doubt = Doubt::new(1, now);
        let settled = |member, alone, seconds| {
            doubt.is_settled(member, alone, now + Duration::from_secs(seconds))
        };
        assert!(!settled(2, false, 2) && settled(2, false, 3));
        assert!(!settled(1, true, 2) && settled(1, true, 3));
        assert!(!settled(1, false, 29) && settled(1, false, 30));
    }
}
