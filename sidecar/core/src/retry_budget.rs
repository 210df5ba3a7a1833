//! How many requests may be repeated: a share of them, and a few each second whatever comes in. A
//! backend that fails all requests gets so much more load and not several times as much (Finagle's
//! and Linkerd's retry budget). What is not used is worth less each second, so that a quiet hour
//! pays for no storm.

/// What a budget allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Repetitions in a hundred requests. Default 20.
    pub percent: u32,
    /// Repetitions each second that are always allowed. Default 3.
    pub min_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, min_per_second: 3 }
    }
}

/// What is left after a second, which keeps about what ten of them brought.
const KEPT: f64 = 0.9;
const SECONDS: f64 = 1.0 / (1.0 - KEPT);

/// What is left of a budget on one of several workers.
#[derive(Clone, Copy, Debug)]
pub struct Purse {
    /// Repetitions that are paid for, but for those of this second's requests.
    saved: f64,
    /// Requests of this second.
    requests: u32,
    /// What this worker gets of a second's allowance.
    part: f64,
}

impl Purse {
    /// As full as it gets without requests, for one of so many workers.
    pub fn new(budget: RetryBudget, workers: usize) -> Self {
        let part = 1.0 / workers.max(1) as f64;
        Self { saved: allowance(budget) * part * SECONDS, requests: 0, part }
    }

    /// A request came.
    pub fn requested(&mut self) {
        self.requests = self.requests.saturating_add(1);
    }

    /// Pays for a repetition, where it can.
    pub fn pay(&mut self, budget: RetryBudget) -> bool {
        let enough = self.saved + self.earned(budget) >= 1.0;
        if enough {
            self.saved -= 1.0;
        }
        enough
    }

    /// A second is over.
    pub fn second(&mut self, budget: RetryBudget) {
        let earned = self.earned(budget) + allowance(budget) * self.part;
        // What was paid out of this second's requests is no debt that fades.
        let saved = if self.saved > 0.0 { self.saved * KEPT } else { self.saved };
        self.saved = saved + earned;
        self.requests = 0;
    }

    fn earned(&self, budget: RetryBudget) -> f64 {
        f64::from(self.requests) * f64::from(budget.percent) / 100.0
    }
}

fn allowance(budget: RetryBudget) -> f64 {
    f64::from(budget.min_per_second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paid(purse: &mut Purse, budget: RetryBudget, tries: u32) -> u32 {
        (0..tries).filter(|_| purse.pay(budget)).count() as u32
    }

    #[test]
    fn without_requests_a_few_each_second_are_paid() {
        let budget = RetryBudget::default();
        let mut purse = Purse::new(budget, 1);
        assert_eq!(paid(&mut purse, budget, 1000), 30, "ten seconds' worth at the beginning");
        purse.second(budget);
        assert_eq!(paid(&mut purse, budget, 1000), 3);
        let mut half = Purse::new(budget, 2);
        assert_eq!(paid(&mut half, budget, 1000), 15, "workers share it");
    }

    #[test]
    fn a_quiet_hour_pays_for_no_storm() {
        let budget = RetryBudget::default();
        let mut purse = Purse::new(budget, 1);
        for _ in 0..3600 {
            purse.second(budget);
        }
        assert_eq!(paid(&mut purse, budget, 1000), 30);
        let none = RetryBudget { percent: 0, min_per_second: 0 };
        assert_eq!(paid(&mut Purse::new(none, 1), none, 10), 0);
    }

    proptest! {
        #[test]
        fn repetitions_stay_below_the_share(
            seconds in prop::collection::vec((0u32..500, 0u32..500), 1..60),
            percent in 0u32..100,
            min_per_second in 0u32..10,
        ) {
            let budget = RetryBudget { percent, min_per_second };
            let mut purse = Purse::new(budget, 1);
            let (mut requests, mut repeated) = (0, 0);
            for &(come, fail) in &seconds {
                for _ in 0..come {
                    purse.requested();
                }
                requests += come;
                repeated += paid(&mut purse, budget, fail);
                purse.second(budget);
            }
            let spent = seconds.len() as f64 + SECONDS;
            let most = f64::from(requests) * f64::from(percent) / 100.0
                + f64::from(min_per_second) * spent;
            prop_assert!(f64::from(repeated) <= most + 1e-6, "{repeated} of {most}");
        }
    }
}
