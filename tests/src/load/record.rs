//! What happened under load.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Distinct reasons of failures that are kept.
const MAX_REASONS: usize = 50;
/// Latencies above this count as this.
const MAX_LATENCY_US: u64 = 60_000_000;

/// Everything since the start.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests that ended.
    pub requests: u64,
    /// Requests without a right answer.
    pub failed: u64,
    /// Why, and how often.
    pub reasons: BTreeMap<String, u64>,
    /// Requests sent again because the connection was closed before they were on it.
    pub resent: u64,
    /// Answers of each version.
    pub versions: BTreeMap<String, u64>,
    /// Users that met an older version after a newer one had already answered them.
    pub moved_backwards: u64,
    /// Users that were answered at least once.
    pub users_seen: u64,
    pub elapsed: Duration,
    pub latency: Quantiles,
}

/// Since the interval before.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    pub requests: u64,
    pub failed: u64,
    pub versions: BTreeMap<String, u64>,
    pub elapsed: Duration,
    pub latency: Quantiles,
}

/// Of latencies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantiles {
    pub p50: Duration,
    pub p90: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl Interval {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

impl Report {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Panics with the whole report where a request failed or was sent twice.
    pub fn assert_clean(&self) {
        assert!(self.requests > 0, "no load: {self}");
        assert!(self.failed == 0 && self.resent == 0, "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests in {:.1?} ({:.0}/s), {} failed, {} resent, {} users moved backwards, \
             versions {:?}, p50 {:.1?}, p99 {:.1?}, max {:.1?}",
            self.requests,
            self.elapsed,
            self.rate(),
            self.failed,
            self.resent,
            self.moved_backwards,
            self.versions,
            self.latency.p50,
            self.latency.p99,
            self.latency.max,
        )?;
        for (reason, count) in &self.reasons {
            write!(f, "\n  {count} × {reason}")?;
        }
        Ok(())
    }
}

/// Collects what lanes tell. One shard a lane, so that lanes do not wait for each other.
pub(super) struct Recorder {
    shards: Vec<Mutex<Shard>>,
    users: Vec<Mutex<User>>,
    started: Instant,
    interval_started: Mutex<Instant>,
}

struct Shard {
    all: Tally,
    interval: Tally,
    reasons: BTreeMap<String, u64>,
    resent: u64,
}

struct Tally {
    requests: u64,
    failed: u64,
    versions: BTreeMap<String, u64>,
    latency: Histogram<u64>,
}

/// The newest version that has answered a user, and when its first answer was there.
#[derive(Default)]
struct User {
    newest: Option<(u32, Instant)>,
    backwards: bool,
}

impl Recorder {
    pub fn new(lanes: usize, users: u32) -> Self {
        let now = Instant::now();
        Self {
            shards: (0..lanes).map(|_| Mutex::new(Shard::new())).collect(),
            users: (0..users).map(|_| Mutex::default()).collect(),
            started: now,
            interval_started: Mutex::new(now),
        }
    }

    /// A right answer. `began` is when the request was sent.
    pub fn answered(
        &self,
        lane: usize,
        user: u32,
        version: &str,
        began: Instant,
        latency: Duration,
    ) {
        let mut shard = lock(&self.shards[lane]);
        shard.all.answered(version, latency);
        shard.interval.answered(version, latency);
        drop(shard);
        let number: u32 = version.trim_start_matches('v').parse().unwrap_or(0);
        let mut user = lock(&self.users[user as usize]);
        match user.newest {
            // Only a request that began after the newer version had answered counts: those that
            // were in flight together have no order.
            Some((newest, since)) if number < newest => user.backwards |= began > since,
            Some((newest, _)) if number == newest => {}
            _ => user.newest = Some((number, Instant::now())),
        }
    }

    pub fn failed(&self, lane: usize, reason: String, latency: Duration) {
        let mut shard = lock(&self.shards[lane]);
        shard.all.failed(latency);
        shard.interval.failed(latency);
        if shard.reasons.len() < MAX_REASONS || shard.reasons.contains_key(&reason) {
            *shard.reasons.entry(reason).or_default() += 1;
        }
    }

    pub fn resent(&self, lane: usize) {
        lock(&self.shards[lane]).resent += 1;
    }

    pub fn report(&self) -> Report {
        let mut report = Report { elapsed: self.started.elapsed(), ..Report::default() };
        let mut latency = histogram();
        for shard in &self.shards {
            let shard = lock(shard);
            report.requests += shard.all.requests;
            report.failed += shard.all.failed;
            report.resent += shard.resent;
            merge(&mut report.versions, &shard.all.versions);
            merge(&mut report.reasons, &shard.reasons);
            let _ = latency.add(&shard.all.latency);
        }
        for user in &self.users {
            let user = lock(user);
            report.moved_backwards += u64::from(user.backwards);
            report.users_seen += u64::from(user.newest.is_some());
        }
        report.latency = quantiles(&latency);
        report
    }

    pub fn interval(&self) -> Interval {
        let mut started = lock(&self.interval_started);
        let mut interval = Interval { elapsed: started.elapsed(), ..Interval::default() };
        *started = Instant::now();
        let mut latency = histogram();
        for shard in &self.shards {
            let tally = std::mem::replace(&mut lock(shard).interval, Tally::new());
            interval.requests += tally.requests;
            interval.failed += tally.failed;
            merge(&mut interval.versions, &tally.versions);
            let _ = latency.add(&tally.latency);
        }
        interval.latency = quantiles(&latency);
        interval
    }

    /// From now on no user has a past: for weights that go down again.
    pub fn forget_users(&self) {
        for user in &self.users {
            *lock(user) = User::default();
        }
    }
}

impl Shard {
    fn new() -> Self {
        Self { all: Tally::new(), interval: Tally::new(), reasons: BTreeMap::new(), resent: 0 }
    }
}

impl Tally {
    fn new() -> Self {
        Self { requests: 0, failed: 0, versions: BTreeMap::new(), latency: histogram() }
    }

    fn answered(&mut self, version: &str, latency: Duration) {
        self.requests += 1;
        match self.versions.get_mut(version) {
            Some(count) => *count += 1,
            None => {
                self.versions.insert(version.to_owned(), 1);
            }
        }
        self.latency.saturating_record(micros(latency));
    }

    fn failed(&mut self, latency: Duration) {
        self.requests += 1;
        self.failed += 1;
        self.latency.saturating_record(micros(latency));
    }
}

/// Two significant digits are enough for people, and small enough for one histogram a lane.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(MAX_LATENCY_US, 2).unwrap_or_else(|_| unreachable!("valid bounds"))
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(MAX_LATENCY_US).max(1)
}

fn quantiles(latency: &Histogram<u64>) -> Quantiles {
    let at = |q: f64| Duration::from_micros(latency.value_at_quantile(q));
    if latency.is_empty() {
        return Quantiles::default();
    }
    Quantiles {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        max: Duration::from_micros(latency.max()),
    }
}

fn merge(into: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (key, count) in from {
        *into.entry(key.clone()).or_default() += count;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_that_began_after_the_newer_answer_moves_a_user_back() {
        let recorder = Recorder::new(1, 2);
        let early = Instant::now();
        recorder.answered(0, 0, "v2", early, Duration::ZERO);
        recorder.answered(0, 0, "v1", early, Duration::ZERO);
        assert_eq!(recorder.report().moved_backwards, 0);
        recorder.answered(0, 0, "v1", Instant::now(), Duration::ZERO);
        recorder.answered(0, 1, "v1", Instant::now(), Duration::ZERO);
        recorder.answered(0, 1, "v2", Instant::now(), Duration::ZERO);
        let report = recorder.report();
        assert_eq!((report.moved_backwards, report.users_seen), (1, 2));
        assert_eq!(report.versions, BTreeMap::from([("v1".into(), 3), ("v2".into(), 2)]));
    }

    #[test]
    fn an_interval_holds_only_what_is_new() {
        let recorder = Recorder::new(1, 1);
        recorder.failed(0, "broken".into(), Duration::from_millis(5));
        assert_eq!(recorder.interval().failed, 1);
        assert_eq!(recorder.interval().requests, 0);
        assert_eq!(recorder.report().reasons["broken"], 1);
    }
}
