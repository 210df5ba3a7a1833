//! What became of every call, and which failures the harness itself caused.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::kind::Kind;

/// Distinct reasons that are kept.
const MAX_REASONS: usize = 50;

/// Counts of each kind.
#[derive(Clone, Debug, Default)]
pub struct MixedReport {
    /// How many ended well.
    pub good: BTreeMap<Kind, u64>,
    /// Failures that nothing explains, by kind and reason.
    pub unexplained: BTreeMap<String, u64>,
    /// Failures while the harness itself had something broken, by kind and reason.
    pub excused: BTreeMap<String, u64>,
}

impl MixedReport {
    /// Panics with the whole report where a failure is not explained, or a kind never did well.
    pub fn assert_explained(&self, kinds: &[(Kind, usize)]) {
        assert!(self.unexplained.is_empty(), "{self}");
        for (kind, _) in kinds {
            assert!(self.good.get(kind).is_some_and(|good| *good > 0), "no {kind:?}: {self}");
        }
    }
}

impl fmt::Display for MixedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "good {:?}", self.good)?;
        for (what, failures) in [("unexplained", &self.unexplained), ("excused", &self.excused)] {
            for (reason, count) in failures {
                write!(f, "\n  {what}: {count} × {reason}")?;
            }
        }
        Ok(())
    }
}

/// As long as it lives, and for its grace after that, failures of calls that may meet what is broken
/// are excused.
#[derive(Debug)]
pub struct Excuse {
    tally: Arc<Tally>,
    place: usize,
    grace: Duration,
}

/// All counts, and the times of excuses.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    report: MixedReport,
    /// Begin, and end where it has one.
    excuses: Vec<(Instant, Option<Instant>)>,
}

impl Tally {
    pub fn excuse(self: &Arc<Self>, grace: Duration) -> Excuse {
        let mut state = self.lock();
        state.excuses.push((Instant::now(), None));
        Excuse { tally: Arc::clone(self), place: state.excuses.len() - 1, grace }
    }

    pub fn ended(&self, kind: Kind, began: Instant, result: Result<(), String>) {
        let now = Instant::now();
        let mut state = self.lock();
        let Err(why) = result else {
            *state.report.good.entry(kind).or_default() += 1;
            return;
        };
        // What never goes to a test application has no excuse.
        let excused = kind != Kind::Tcp
            && state
                .excuses
                .iter()
                .any(|(from, to)| *from <= now && to.is_none_or(|to| began <= to));
        let report = &mut state.report;
        let failures = if excused { &mut report.excused } else { &mut report.unexplained };
        let reason = format!("{kind:?}: {why}");
        if failures.len() < MAX_REASONS || failures.contains_key(&reason) {
            *failures.entry(reason).or_default() += 1;
        }
    }

    pub fn report(&self) -> MixedReport {
        self.lock().report.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Excuse {
    fn drop(&mut self) {
        if let Some((_, end)) = self.tally.lock().excuses.get_mut(self.place) {
            *end = Some(Instant::now() + self.grace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_that_met_the_excuse_is_excused() {
        let tally = Arc::new(Tally::default());
        let early = Instant::now();
        let fail = |began| tally.ended(Kind::Events1, began, Err("broken".into()));
        fail(early);
        let excuse = tally.excuse(Duration::ZERO);
        fail(early);
        drop(excuse);
        fail(early);
        fail(Instant::now() + Duration::from_millis(1));
        let report = tally.report();
        assert_eq!(report.excused.values().sum::<u64>(), 2);
        assert_eq!(report.unexplained.values().sum::<u64>(), 2);
    }
}
