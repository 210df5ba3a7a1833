//! The endpoint that will answer sooner, of two drawn at random: a moving average of its latency
//! times the requests that already wait there (Finagle's and Linkerd's Peak EWMA). A slow answer
//! counts at once, a fast one only bit by bit, so that an endpoint which falters is left alone.

use super::level::Level;
use super::load::Load;
use super::mixed;

/// Time after which a latency weighs 1/e of what it did.
const DECAY_NANOS: f64 = 10e9;
/// What an endpoint is taken for that has not answered yet but has requests.
const UNKNOWN_NANOS: f64 = 1e9;

/// Moving average of an endpoint's latency.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ewma {
    nanos: f64,
    /// When it was last fed, in nanoseconds of the caller's clock.
    at: u64,
}

impl Ewma {
    /// The average with one more latency, both times in nanoseconds.
    #[must_use]
    pub fn fed(self, latency: u64, now: u64) -> Self {
        let latency = latency as f64;
        let nanos = if latency >= self.nanos {
            latency
        } else {
            let old = (-(now.saturating_sub(self.at) as f64) / DECAY_NANOS).exp();
            self.nanos * old + latency * (1.0 - old)
        };
        Self { nanos, at: now }
    }

    /// Nanoseconds; 0 before the first latency.
    pub fn nanos(self) -> f64 {
        self.nanos
    }
}

/// The cheaper one of two draws.
pub(super) fn pick(level: &Level, load: &impl Load, draw: u64) -> usize {
    let cost = |at: usize| {
        let running = f64::from(load.in_flight(at));
        let latency = match load.latency(at) {
            unknown if unknown <= 0.0 && running > 0.0 => UNKNOWN_NANOS,
            latency => latency,
        };
        latency * (running + 1.0) / load.share(at)
    };
    let one = level.drawn(draw);
    if level.members.len() < 2 {
        return one;
    }
    let draw = mixed(draw);
    let mut two = level.drawn(draw);
    if two == one {
        two = level.other(mixed(draw), one);
    }
    if cost(two) < cost(one) { two } else { one }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::level::Pickable;
    use super::super::sample::equal;
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn slow_answers_count_at_once_and_fade() {
        let fast = Ewma::default().fed(10 * MS, 0);
        assert!((fast.nanos() - 10e6).abs() < 1.0);
        let slow = fast.fed(500 * MS, MS);
        assert!((slow.nanos() - 500e6).abs() < 1.0);
        let soon = slow.fed(10 * MS, 2 * MS);
        assert!(soon.nanos() > 499e6, "{soon:?}");
        let later = slow.fed(10 * MS, 10_000 * MS);
        assert!((later.nanos() - (500e6 / std::f64::consts::E + 10e6 * 0.632)).abs() < 1e6);
    }

    struct Known(Vec<(f64, u32)>);

    impl Load for Known {
        fn in_flight(&self, at: usize) -> u32 {
            self.0[at].1
        }

        fn latency(&self, at: usize) -> f64 {
            self.0[at].0
        }

        fn share(&self, _: usize) -> f64 {
            1.0
        }
    }

    #[test]
    fn the_one_that_answers_sooner_is_picked() {
        let pickable = Pickable::new(&equal(2), |_| true, 50);
        let picked = |known: [(f64, u32); 2]| {
            let known = Known(known.to_vec());
            let all: Vec<usize> =
                (0..50).map(|draw| pick(pickable.level(0).unwrap(), &known, mixed(draw))).collect();
            assert!(all.iter().all(|&at| at == all[0]), "{all:?}");
            all[0]
        };
        assert_eq!(picked([(10e6, 0), (50e6, 0)]), 0);
        assert_eq!(picked([(10e6, 9), (50e6, 0)]), 1, "a queue before the fast one");
        assert_eq!(picked([(10e6, 0), (0.0, 3)]), 0, "nobody knows whether it answers at all");
        assert_eq!(picked([(10e6, 0), (0.0, 0)]), 1, "to get to know it");
    }

    proptest! {
        #[test]
        fn the_average_lies_between_what_was_measured(
            latencies in prop::collection::vec((1u64..10_000_000_000, 0u64..5_000_000_000), 1..50),
        ) {
            let (mut ewma, mut now) = (Ewma::default(), 0);
            for &(latency, pause) in &latencies {
                now += pause;
                ewma = ewma.fed(latency, now);
            }
            let all = || latencies.iter().map(|it| it.0 as f64);
            let (least, most) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
            prop_assert!((least * 0.999..=most * 1.001).contains(&ewma.nanos()));
        }
    }
}
