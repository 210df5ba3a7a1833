//! Exponential backoff with jitter. Pure: the draw is an argument.

use std::time::Duration;

/// A growing pause between attempts. Defaults are those of gRPC's xDS clients with a lower ceiling:
/// 0.5 s, factor 1.6, at most 30 s, ± 20 % jitter.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

const FACTOR: f64 = 1.6;
const JITTER: f64 = 0.2;

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(30))
    }
}

impl Backoff {
    /// A backoff that begins at `first` and never exceeds `most` by more than the jitter.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The pause before the next attempt. `draw` is uniform in 0.0..1.0.
    pub fn next_pause(&mut self, draw: f64) -> Duration {
        let pause = self.next.mul_f64(1.0 - JITTER + 2.0 * JITTER * draw.clamp(0.0, 1.0));
        self.next = self.next.mul_f64(FACTOR).min(self.most);
        pause
    }

    /// Begins again after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_ceiling_and_begin_again() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..12).map(|_| backoff.next_pause(0.5).as_millis()).collect();
        assert_eq!(&pauses[..3], &[500, 800, 1280]);
        assert_eq!(pauses[11], 30_000);
        backoff.reset();
        assert_eq!(backoff.next_pause(0.0), Duration::from_millis(400));
        assert_eq!(backoff.next_pause(1.0), Duration::from_millis(960));
    }
}
