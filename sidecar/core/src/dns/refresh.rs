//! How often a name is asked for.

use std::time::Duration;

/// Pauses between two lookups of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// Pause after an answer. Default 5 s.
    pub every: Duration,
    /// First pause after a failure, doubled with each further one up to `failure_most`. By default
    /// both are `every`.
    pub failure_first: Duration,
    pub failure_most: Duration,
    /// Whether the time that the answer's records may be kept stands in for `every`.
    pub respect_ttl: bool,
    /// A random part of this is added to each pause. Default none.
    pub jitter: Duration,
}

/// No name is asked for more often, whatever its settings and its records say.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
const DEFAULT_EVERY: Duration = Duration::from_secs(5);

impl Default for Refresh {
    fn default() -> Self {
        Self::every(DEFAULT_EVERY)
    }
}

impl Refresh {
    /// One pause, whatever comes.
    pub fn every(every: Duration) -> Self {
        Self {
            every,
            failure_first: every,
            failure_most: every,
            respect_ttl: false,
            jitter: Duration::ZERO,
        }
    }

    /// The pause after an answer whose records may be kept for `ttl`; records that may not be kept at
    /// all say nothing. `draw` is uniform in 0.0..1.0.
    pub fn after_answer(&self, ttl: Duration, draw: f64) -> Duration {
        let pause = if self.respect_ttl && !ttl.is_zero() { ttl } else { self.every };
        self.jittered(pause, draw)
    }

    /// The pause after the last of so many failures in a row.
    pub fn after_failure(&self, failures: u32, draw: f64) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        let most = self.failure_most.max(self.failure_first);
        let pause = self.failure_first.checked_mul(doubled).unwrap_or(most).min(most);
        self.jittered(pause, draw)
    }

    /// What serves two clusters that name the same host: the shorter pauses of both.
    #[must_use]
    pub fn or_sooner(self, other: Self) -> Self {
        Self {
            every: self.every.min(other.every),
            failure_first: self.failure_first.min(other.failure_first),
            failure_most: self.failure_most.min(other.failure_most),
            respect_ttl: self.respect_ttl && other.respect_ttl,
            jitter: self.jitter.min(other.jitter),
        }
    }

    fn jittered(&self, pause: Duration, draw: f64) -> Duration {
        pause.max(LEAST_PAUSE).saturating_add(self.jitter.mul_f64(draw.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn records_decide_only_where_they_are_respected() {
        let plain = Refresh::default();
        assert_eq!(plain.after_answer(secs(60), 0.5), secs(5));
        let respectful = Refresh { respect_ttl: true, ..plain };
        assert_eq!(respectful.after_answer(secs(60), 0.5), secs(60));
        assert_eq!(respectful.after_answer(secs(0), 0.5), secs(5));
        let jittered = Refresh { jitter: secs(2), ..respectful };
        assert_eq!(jittered.after_answer(secs(60), 0.5), secs(61));
        assert_eq!(Refresh::every(Duration::ZERO).after_answer(secs(0), 0.0), LEAST_PAUSE);
    }

    #[test]
    fn failures_double_the_pause_up_to_the_most() {
        let refresh =
            Refresh { failure_first: secs(1), failure_most: secs(6), ..Refresh::default() };
        let pauses =
            [1, 2, 3, 4, 40].map(|failures| refresh.after_failure(failures, 0.0).as_secs());
        assert_eq!(pauses, [1, 2, 4, 6, 6]);
        assert_eq!(Refresh::default().after_failure(9, 0.0), secs(5));
    }

    #[test]
    fn two_clusters_of_one_name_get_the_shorter_pauses() {
        let respectful = Refresh { respect_ttl: true, ..Refresh::every(secs(9)) };
        let both = respectful.or_sooner(Refresh::every(secs(3)));
        assert_eq!(both, Refresh::every(secs(3)));
    }
}
