//! So many of a kind in a second, and no more.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Warnings of one kind that are logged in a second.
const LOGS_PER_SECOND: f64 = 100.0;

/// A bucket of tokens that fills as time goes by.
#[derive(Debug)]
pub struct Pace {
    per_second: f64,
    burst: f64,
    state: Mutex<Bucket>,
}

/// What is left, and when that was so.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Pace {
    pub fn new(per_second: f64, burst: f64) -> Self {
        let state = Mutex::new(Bucket { left: burst, at: Instant::now() });
        Self { per_second, burst, state }
    }

    pub fn of_logs() -> Self {
        Self::new(LOGS_PER_SECOND, LOGS_PER_SECOND)
    }

    /// Takes one, if there is one.
    pub fn allows(&self) -> bool {
        self.allows_at(Instant::now())
    }

    fn allows_at(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(state.at).as_secs_f64();
        state.left = (state.left + passed * self.per_second).min(self.burst);
        state.at = state.at.max(now);
        if state.left < 1.0 {
            return false;
        }
        state.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_so_many_a_second() {
        let pace = Pace::new(2.0, 5.0);
        let begin = Instant::now();
        let let_through = |at: Instant| (0..100).filter(|_| pace.allows_at(at)).count();
        assert_eq!(let_through(begin), 5);
        assert_eq!(let_through(begin + Duration::from_secs(1)), 2);
        assert_eq!(let_through(begin + Duration::from_secs(2)), 2);
        assert_eq!(let_through(begin + Duration::from_secs(100)), 5);
    }
}
