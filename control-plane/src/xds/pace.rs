//! How fast a client may ask: a token bucket.

use std::time::Duration;

use tokio::time::Instant;

/// Requests of one stream in a second, in the long run.
const A_SECOND: u32 = 100;
/// Requests at once: the first ones of a client that asks name by name.
const BURST: u32 = 1000;

/// What a client may still ask. A hasty one is read late, so that its requests wait on its own side.
#[derive(Debug)]
pub(super) struct Pace {
    tokens: f32,
    at: Instant,
}

impl Pace {
    pub fn new(now: Instant) -> Self {
        Self { tokens: BURST as f32, at: now }
    }

    /// A request was read. Says when the next may be, where that is later than now.
    pub fn spend(&mut self, now: Instant) -> Option<Instant> {
        let gained = now.saturating_duration_since(self.at).as_secs_f32() * A_SECOND as f32;
        self.tokens = (self.tokens + gained).min(BURST as f32) - 1.0;
        self.at = now;
        let missing = 1.0 - self.tokens;
        (missing > 0.0).then(|| now + Duration::from_secs_f32(missing / A_SECOND as f32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_read_at_once_and_then_a_hundred_a_second() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        let mut read = 0;
        while begin.elapsed() < Duration::from_secs(10) {
            read += 1;
            if let Some(next) = pace.spend(Instant::now()) {
                tokio::time::sleep_until(next).await;
            }
        }
        assert!((1990..=2010).contains(&read), "{read} in 10 s");
    }
}
