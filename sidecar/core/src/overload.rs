//! What is given up, step by step, when memory runs short: better a little for all than everything
//! for those whom the system kills with us (Envoy's overload manager works likewise).

/// How much is given up; each step includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Step {
    #[default]
    None = 0,
    /// Idle connections of callers are closed sooner.
    ShortenIdle = 1,
    /// Connections of callers end after the answer.
    NoKeepAlive = 2,
    /// New connections and requests are refused.
    Refuse = 3,
}

/// Percent of the limit from which on each step is taken.
const FROM_PERCENT: [(Step, u64); 3] =
    [(Step::Refuse, 95), (Step::NoKeepAlive, 92), (Step::ShortenIdle, 85)];
/// So much less than that, and the step is taken back: else it would come and go all the time.
const BACK_POINTS: u64 = 5;

impl Step {
    /// The step after this one, at so many bytes of so many.
    #[must_use]
    pub fn next(self, used_bytes: u64, limit_bytes: u64) -> Self {
        let percent = u128::from(used_bytes) * 100 / u128::from(limit_bytes.max(1));
        let holds = |step: Self, from: u64| {
            let from = if step <= self { from - BACK_POINTS } else { from };
            percent >= u128::from(from)
        };
        let found = FROM_PERCENT.into_iter().find(|(step, from)| holds(*step, *from));
        found.map_or(Self::None, |(step, _)| step)
    }

    /// The step of a number.
    pub fn of(number: u8) -> Self {
        match number {
            0 => Self::None,
            1 => Self::ShortenIdle,
            2 => Self::NoKeepAlive,
            _ => Self::Refuse,
        }
    }

    /// A word for machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ShortenIdle => "shorten_idle",
            Self::NoKeepAlive => "no_keep_alive",
            Self::Refuse => "refuse",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn steps_are_taken_and_taken_back() {
        let mut step = Step::None;
        for (percent, expected) in [
            (50, Step::None),
            (85, Step::ShortenIdle),
            (91, Step::ShortenIdle),
            (92, Step::NoKeepAlive),
            (99, Step::Refuse),
            (91, Step::Refuse),
            (90, Step::Refuse),
            (89, Step::NoKeepAlive),
            (86, Step::ShortenIdle),
            (80, Step::ShortenIdle),
            (79, Step::None),
            (84, Step::None),
            (300, Step::Refuse),
            (0, Step::None),
        ] {
            step = step.next(percent, 100);
            assert_eq!(step, expected, "{percent}");
        }
        assert_eq!(Step::None.next(1, 0), Step::Refuse);
    }

    proptest! {
        #[test]
        fn more_memory_never_means_a_lower_step(step in 0u8..4, a: u64, b: u64, limit in 1u64..) {
            let step = Step::of(step);
            let (less, more) = (a.min(b), a.max(b));
            prop_assert!(step.next(less, limit) <= step.next(more, limit));
            // Where nothing moves, it stays.
            let settled = step.next(a, limit);
            prop_assert_eq!(settled.next(a, limit), settled);
            prop_assert_eq!(Step::of(settled as u8), settled);
        }
    }
}
