//! Outlier detection: an endpoint that fails while others do not is left alone for a while. After
//! each ejection it stays away longer, and is forgiven bit by bit while it behaves (Envoy's outlier
//! detection, gRFC A50). Times are since a moment that the caller chooses.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::snapshot::{Outlier, SuccessRate};

/// What is known of the endpoints of one cluster that were ever ejected.
#[derive(Clone, Debug, Default)]
pub struct Detector {
    judged: HashMap<SocketAddr, Judged>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Judged {
    /// Since when it is out.
    out: Option<Duration>,
    /// How many base times it stays out.
    times: u32,
}

/// Requests of one endpoint within an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    pub successes: u64,
}

/// Whose state a sweep changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    pub ejected: Vec<SocketAddr>,
    pub returned: Vec<SocketAddr>,
}

impl Detector {
    /// Ejects an endpoint of a cluster of `total`, unless it is out or too many are; whether it did.
    pub fn eject(
        &mut self,
        policy: &Outlier,
        total: usize,
        address: SocketAddr,
        now: Duration,
    ) -> bool {
        let out = self.ejected();
        let share = (out + 1) * 100;
        let allowed = share <= usize::from(policy.max_ejected_percent) * total
            || (policy.always_one && out == 0);
        let judged = self.judged.entry(address).or_default();
        if judged.out.is_some() || !allowed {
            return false;
        }
        judged.out = Some(now);
        // Beyond the longest time it need not be counted.
        if policy.base_ejection_time * judged.times < policy.max_ejection_time {
            judged.times += 1;
        }
        true
    }

    /// What is done once an interval: those whose time is over come back, and those whose success
    /// rate lies far below that of the others go. `counts` are those of the interval, one entry for
    /// each endpoint that there is; others are forgotten.
    pub fn sweep(
        &mut self,
        policy: &Outlier,
        counts: &[(SocketAddr, Counts)],
        now: Duration,
    ) -> Sweep {
        let mut done = Sweep::default();
        self.judged.retain(|address, judged| {
            match judged.out {
                Some(since) if now.saturating_sub(since) >= time_out(policy, judged.times) => {
                    judged.out = None;
                    done.returned.push(*address);
                }
                Some(_) => {}
                None => judged.times = judged.times.saturating_sub(1),
            }
            let there = counts.iter().any(|(other, _)| other == address);
            there && (judged.out.is_some() || judged.times > 0)
        });
        if let Some(rate) = &policy.success_rate {
            for address in below_the_others(rate, counts) {
                if !done.returned.contains(&address)
                    && self.eject(policy, counts.len(), address, now)
                {
                    done.ejected.push(address);
                }
            }
        }
        done
    }

    /// How many are out.
    pub fn ejected(&self) -> usize {
        self.judged.values().filter(|judged| judged.out.is_some()).count()
    }
}

fn time_out(policy: &Outlier, times: u32) -> Duration {
    let longest = policy.max_ejection_time.max(policy.base_ejection_time);
    policy.base_ejection_time.saturating_mul(times.max(1)).min(longest)
}

/// Endpoints whose success rate is so many standard deviations below the mean.
fn below_the_others(rate: &SuccessRate, counts: &[(SocketAddr, Counts)]) -> Vec<SocketAddr> {
    let busy: Vec<(SocketAddr, f64)> = counts
        .iter()
        .filter(|(_, counts)| counts.requests >= u64::from(rate.min_requests.max(1)))
        .map(|(address, counts)| (*address, counts.successes as f64 / counts.requests as f64))
        .collect();
    if busy.len() < rate.min_endpoints.max(1) as usize {
        return Vec::new();
    }
    let count = busy.len() as f64;
    let mean = busy.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = busy.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    let least = mean - variance.sqrt() * f64::from(rate.stdev_factor_thousandths) / 1000.0;
    busy.iter().filter(|(_, rate)| *rate < least).map(|(address, _)| *address).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(i: u16) -> SocketAddr {
        ([127, 0, 0, 1], 9000 + i).into()
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn idle(count: u16) -> Vec<(SocketAddr, Counts)> {
        (0..count).map(|i| (at(i), Counts::default())).collect()
    }

    #[test]
    fn an_ejection_ends_and_the_next_one_is_longer() {
        let (mut detector, policy) = (Detector::default(), Outlier::default());
        let mut now = secs(0);
        for expected in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300] {
            assert!(detector.eject(&policy, 10, at(0), now), "{expected}");
            assert!(!detector.eject(&policy, 10, at(0), now), "it is out already");
            let begun = now;
            while detector.sweep(&policy, &idle(10), now).returned.is_empty() {
                now += secs(10);
            }
            assert_eq!(now.saturating_sub(begun), secs(expected));
        }
    }

    #[test]
    fn who_behaves_is_forgiven() {
        let (mut detector, policy) = (Detector::default(), Outlier::default());
        detector.eject(&policy, 10, at(0), secs(0));
        assert_eq!(detector.sweep(&policy, &idle(10), secs(30)).returned, [at(0)]);
        detector.sweep(&policy, &idle(10), secs(40));
        detector.eject(&policy, 10, at(0), secs(50));
        assert_eq!(detector.sweep(&policy, &idle(10), secs(70)), Sweep::default());
        assert_eq!(detector.sweep(&policy, &idle(10), secs(80)).returned, [at(0)]);
    }

    #[test]
    fn only_so_many_are_out_at_one_time() {
        let table = [(10, 10, true, 1), (3, 10, true, 1), (3, 10, false, 0), (20, 10, true, 2)];
        for (total, percent, always_one, expected) in table {
            let policy = Outlier { max_ejected_percent: percent, always_one, ..Outlier::default() };
            let mut detector = Detector::default();
            let out = (0..total).filter(|&i| detector.eject(&policy, total.into(), at(i), secs(0)));
            assert_eq!(out.count(), expected, "{total} endpoints, {percent} %");
        }
    }

    #[test]
    fn a_success_rate_far_below_the_others_ejects() {
        let policy = Outlier { success_rate: Some(SuccessRate::default()), ..Outlier::default() };
        let counts = |rates: &[(u64, u64)]| -> Vec<(SocketAddr, Counts)> {
            let one = |(i, &(requests, successes)): (usize, &(u64, u64))| {
                (at(i as u16), Counts { requests, successes })
            };
            rates.iter().enumerate().map(one).collect()
        };
        let ejected = |rates: &[(u64, u64)]| {
            Detector::default().sweep(&policy, &counts(rates), secs(10)).ejected
        };
        let good = (200, 199);
        assert_eq!(ejected(&[good, good, good, good, good, (200, 100)]), [at(5)]);
        assert_eq!(ejected(&[good, good, good, (200, 100)]), [], "too few to compare");
        assert_eq!(ejected(&[good, good, good, good, good, (99, 0)]), [], "too few requests");
        assert_eq!(ejected(&[good; 6]), [], "all the same");
    }

    proptest! {
        #[test]
        fn the_cap_holds_and_everybody_comes_back(
            total in 1u16..40,
            percent in 0u8..=100,
            failing in prop::collection::vec((0u16..40, 0u64..20), 0..60),
        ) {
            let policy = Outlier { max_ejected_percent: percent, ..Outlier::default() };
            let mut detector = Detector::default();
            let mut now = secs(0);
            for (i, pause) in failing {
                now += secs(pause);
                detector.eject(&policy, total.into(), at(i % total), now);
                let most = (usize::from(percent) * usize::from(total) / 100).max(1);
                prop_assert!(detector.ejected() <= most);
                if pause % 10 == 0 {
                    detector.sweep(&policy, &idle(total), now);
                }
            }
            detector.sweep(&policy, &idle(total), now + policy.max_ejection_time);
            prop_assert_eq!(detector.ejected(), 0);
        }
    }
}
