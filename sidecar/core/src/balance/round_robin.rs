//! Weighted round robin. The caller keeps the cursor and counts it up by one a pick.

use super::draw::part;
use super::level::Level;
use super::load::Load;

/// The endpoint of a turn. One that is new gives up some of its turns to others.
pub(super) fn pick(level: &Level, load: &impl Load, cursor: u64, draw: u64) -> usize {
    let picked = level.in_turn(cursor);
    let share = load.share(picked);
    if share < 1.0 && part(draw) >= share {
        level.other(super::mixed(draw), picked)
    } else {
        picked
    }
}

#[cfg(test)]
mod tests {
    use super::super::level::Pickable;
    use super::super::sample::equal;
    use super::super::{load::Idle, mixed};
    use super::*;

    #[test]
    fn equal_endpoints_take_turns() {
        let pickable = Pickable::new(&equal(3), |_| true, 50);
        let level = pickable.level(0).unwrap();
        let picked: Vec<usize> = (0..6).map(|cursor| pick(level, &Idle, cursor, 0)).collect();
        assert_eq!(picked, [0, 1, 2, 0, 1, 2]);
    }

    /// The last endpoint is new.
    struct New(f64);

    impl Load for New {
        fn in_flight(&self, _: usize) -> u32 {
            0
        }

        fn latency(&self, _: usize) -> f64 {
            0.0
        }

        fn share(&self, at: usize) -> f64 {
            if at == 3 { self.0 } else { 1.0 }
        }
    }

    #[test]
    fn a_new_endpoint_gets_its_part_of_a_share() {
        let pickable = Pickable::new(&equal(4), |_| true, 50);
        let level = pickable.level(0).unwrap();
        let mut counts = [0u32; 4];
        let mut draw = 7;
        for cursor in 0..40_000 {
            draw = mixed(draw);
            counts[pick(level, &New(0.2), cursor, draw)] += 1;
        }
        // 10,000 turns at 0.2: 2,000 ± 4.9 σ (σ = sqrt(10,000 · 0.2 · 0.8) = 40); the 8,000 others
        // spread over three endpoints: 2,667 ± 4.9 σ (σ ≈ 46 from turns and targets together).
        assert!((1804..2196).contains(&counts[3]), "{counts:?}");
        assert!(counts[..3].iter().all(|count| (12_440..12_893).contains(count)), "{counts:?}");
    }
}
