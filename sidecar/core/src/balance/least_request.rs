//! The less busy of a few drawn at random: nearly as even as looking at all of them, and no herd
//! runs to the one that is idle (Mitzenmacher, The Power of Two Choices in Randomized Load
//! Balancing, 2001).

use super::level::Level;
use super::load::Load;
use super::mixed;

/// The one of `choices` draws that has the fewest requests for its weight. Weights count once, in
/// the draws; a new endpoint seems busier than it is.
pub(super) fn pick(level: &Level, load: &impl Load, choices: u8, draw: u64) -> usize {
    let busy = |at: usize| (f64::from(load.in_flight(at)) + 1.0) / load.share(at);
    let mut draw = draw;
    let mut best = level.drawn(draw);
    if level.members.len() < 2 {
        return best;
    }
    for _ in 1..choices.max(2) {
        draw = mixed(draw);
        let mut other = level.drawn(draw);
        if other == best {
            draw = mixed(draw);
            other = level.other(draw, best);
        }
        if busy(other) < busy(best) {
            best = other;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::super::level::Pickable;
    use super::super::sample::equal;
    use super::*;

    struct Busy(RefCell<Vec<u32>>);

    impl Load for Busy {
        fn in_flight(&self, at: usize) -> u32 {
            self.0.borrow()[at]
        }

        fn latency(&self, _: usize) -> f64 {
            0.0
        }

        fn share(&self, _: usize) -> f64 {
            1.0
        }
    }

    #[test]
    fn of_two_the_idle_one_is_picked() {
        let pickable = Pickable::new(&equal(2), |_| true, 50);
        let busy = Busy(RefCell::new(vec![5, 0]));
        for draw in 0..100 {
            assert_eq!(pick(pickable.level(0).unwrap(), &busy, 2, mixed(draw)), 1);
        }
    }

    #[test]
    fn requests_that_never_end_spread_evenly() {
        let pickable = Pickable::new(&equal(10), |_| true, 50);
        let busy = Busy(RefCell::new(vec![0; 10]));
        let mut draw = 1;
        for _ in 0..1000 {
            draw = mixed(draw);
            let picked = pick(pickable.level(0).unwrap(), &busy, 2, draw);
            busy.0.borrow_mut()[picked] += 1;
        }
        // The gap between the fullest and the mean is about ln ln 10 / ln 2 ≈ 1.2 whatever the
        // number of requests; one draw alone would be off by 30.
        let counts = busy.0.borrow();
        assert!(counts.iter().all(|count| (95..=105).contains(count)), "{counts:?}");
    }
}
