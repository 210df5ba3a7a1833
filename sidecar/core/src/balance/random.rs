//! An endpoint drawn by its weight.

use super::draw::part;
use super::level::Level;
use super::load::Load;
use super::mixed;

/// The endpoint of a draw. One that is new gives up some of its draws to others.
pub(super) fn pick(level: &Level, load: &impl Load, draw: u64) -> usize {
    let picked = level.drawn(draw);
    let share = load.share(picked);
    let again = mixed(draw);
    if share < 1.0 && part(again) >= share { level.other(mixed(again), picked) } else { picked }
}

#[cfg(test)]
mod tests {
    use super::super::level::Pickable;
    use super::super::load::Idle;
    use super::super::sample::endpoints;
    use super::*;

    #[test]
    fn weights_hold_on_average() {
        let pickable = Pickable::new(&endpoints(&[(1, 0), (3, 0)]), |_| true, 50);
        let mut draw = 3;
        let heavy = (0..10_000)
            .filter(|_| {
                draw = mixed(draw);
                pick(pickable.level(0).unwrap(), &Idle, draw) == 1
            })
            .count();
        // 7,500 ± 4.9 σ (σ = sqrt(10,000 · 0.75 · 0.25) ≈ 43).
        assert!((7288..7712).contains(&heavy), "{heavy}");
    }
}
