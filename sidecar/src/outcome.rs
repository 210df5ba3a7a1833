//! Exactly one end for each request, and the counters that it falls into.
//!
//! Each worker writes only its own slot of a cluster's counters, so that nothing is contended; a
//! scrape sums the slots.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use segue_shared::ids::{ServiceName, VersionLabel};
use tokio::time::Instant;

/// Upper bounds of the latency histogram, in seconds; the last bucket has none.
pub const LATENCY_BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The same in microseconds, for the hot path.
const BOUNDS_MICROS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];
/// Clusters that are counted by name; all later ones are counted together as [`OTHER`].
const MOST_CLUSTERS: usize = 20_000;
/// Name under which clusters beyond the limit are counted.
pub const OTHER: &str = "other";

/// Counters of all clusters that were ever called; they outlive snapshots.
pub struct Counters {
    workers: usize,
    /// What the sidecar refused or gave up, by reason.
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    clusters: Mutex<BTreeMap<Arc<str>, Arc<ClusterCounters>>>,
}

/// Counters of one cluster.
pub struct ClusterCounters {
    /// Name of the cluster.
    pub name: Arc<str>,
    /// The version that it stands for.
    pub version: Option<(ServiceName, VersionLabel)>,
    slots: Box<[Slot]>,
}

/// What one worker counts for one cluster. Aligned so that two workers never share a cache line.
#[derive(Default)]
#[repr(align(128))]
pub struct Slot {
    requests: AtomicU64,
    failures: AtomicU64,
    cancelled: AtomicU64,
    retries: AtomicU64,
    retries_refused: AtomicU64,
    hedges: AtomicU64,
    hedges_won: AtomicU64,
    retrying: AtomicU64,
    in_flight: AtomicU64,
    pending: AtomicU64,
    copying: AtomicU64,
    copies: AtomicU64,
    copies_failed: AtomicU64,
    connections: AtomicU64,
    connects: AtomicU64,
    connect_failures: AtomicU64,
    connections_lost: AtomicU64,
    cross_locality: AtomicU64,
    classes: [AtomicU64; 6],
    latency: [AtomicU64; 15],
    latency_micros: AtomicU64,
    tunnels: AtomicU64,
    tunnel_bytes: [AtomicU64; 2],
}

/// A sum over the workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests begun.
    pub requests: u64,
    /// Requests that got no answer or 5xx.
    pub failures: u64,
    /// Requests that the caller gave up before the end.
    pub cancelled: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Attempts after the first that the budget did not allow.
    pub retries_refused: u64,
    /// Those of them that began while another attempt ran.
    pub hedges: u64,
    /// Those of these that answered first.
    pub hedges_won: u64,
    /// Requests now.
    pub in_flight: u64,
    /// Requests that wait for room now.
    pub pending: u64,
    /// Copies of other versions' requests that are over.
    pub copies: u64,
    /// Those of them that got no answer.
    pub copies_failed: u64,
    /// Connections now.
    pub connections: u64,
    /// Connections opened.
    pub connects: u64,
    /// Connections that could not be opened.
    pub connect_failures: u64,
    /// Connections whose peer did not answer any more.
    pub connections_lost: u64,
    /// Attempts that went to another locality than the sidecar's own.
    pub cross_locality: u64,
    /// Answers by class: 1xx to 5xx, and none at all.
    pub classes: [u64; 6],
    /// Requests by latency, one for each of [`LATENCY_BOUNDS`] and the rest.
    pub latency: [u64; 15],
    /// Sum of the latencies in microseconds.
    pub latency_micros: u64,
    /// Connections of callers that were passed through as they are.
    pub tunnels: u64,
    /// Bytes of those, to the upstream and back.
    pub tunnel_bytes: [u64; 2],
}

/// Only the worker that owns the slot writes it, so no read-modify-write is needed.
fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

impl Counters {
    /// Counters for so many workers.
    pub fn new(workers: usize) -> Self {
        Self { workers, refusals: Mutex::default(), clusters: Mutex::default() }
    }

    /// The counters of a cluster, made at the first call.
    pub fn cluster(
        &self,
        name: &Arc<str>,
        version: Option<&(ServiceName, VersionLabel)>,
    ) -> Arc<ClusterCounters> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let full = clusters.len() >= MOST_CLUSTERS && !clusters.contains_key(name);
        let (name, version) =
            if full { (Arc::from(OTHER), None) } else { (Arc::clone(name), version.cloned()) };
        let counters = clusters.entry(Arc::clone(&name)).or_insert_with(|| {
            let slots = (0..self.workers.max(1)).map(|_| Slot::default()).collect();
            Arc::new(ClusterCounters { name, version, slots })
        });
        Arc::clone(counters)
    }

    /// Counts a request that the sidecar answered itself, or what it gave up.
    pub fn refused(&self, reason: &'static str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        *refusals.entry(reason).or_default() += 1;
    }

    /// What the sidecar refused or gave up, by reason.
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All clusters by name.
    pub fn all(&self) -> Vec<Arc<ClusterCounters>> {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.values().cloned().collect()
    }
}

impl ClusterCounters {
    /// The slot of a worker.
    pub fn slot(&self, worker: usize) -> &Slot {
        &self.slots[worker % self.slots.len()]
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.slots.len()
    }

    /// Whether one more request may wait.
    pub fn admits_pending(&self, worker: usize, most: u32) -> bool {
        self.admits(worker, most, |slot| &slot.pending)
    }

    /// Whether one more copy of a request stays below `most`.
    pub fn admits_copy(&self, worker: usize, most: u32) -> bool {
        self.admits(worker, most, |slot| &slot.copying)
    }

    /// Whether one more repetition stays below `most`.
    pub fn admits_retry(&self, worker: usize, most: u32) -> bool {
        self.admits(worker, most, |slot| &slot.retrying)
    }

    /// Whether one more request stays below `most`. Large caps may be exceeded by an eighth.
    pub fn admits_request(&self, worker: usize, most: u32) -> bool {
        self.admits(worker, most, |slot| &slot.in_flight)
    }

    /// Whether one more connection stays below `most`. A worker without any may always have one:
    /// others' idle connections are of no use to it.
    pub fn admits_connection(&self, worker: usize, most: u32) -> bool {
        self.slot(worker).connections.load(Relaxed) == 0
            || self.admits(worker, most, |slot| &slot.connections)
    }

    /// Other workers' slots are read only where an eighth of the own share is used up.
    fn admits(&self, worker: usize, most: u32, of: impl Fn(&Slot) -> &AtomicU64) -> bool {
        let most = u64::from(most);
        let own = of(self.slot(worker)).load(Relaxed);
        (own + 1) * self.slots.len() as u64 * 8 <= most
            || self.slots.iter().map(|slot| of(slot).load(Relaxed)).sum::<u64>() < most
    }

    /// The sum over the workers.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for slot in &self.slots {
            totals.requests += slot.requests.load(Relaxed);
            totals.failures += slot.failures.load(Relaxed);
            totals.cancelled += slot.cancelled.load(Relaxed);
            totals.retries += slot.retries.load(Relaxed);
            totals.retries_refused += slot.retries_refused.load(Relaxed);
            totals.hedges += slot.hedges.load(Relaxed);
            totals.hedges_won += slot.hedges_won.load(Relaxed);
            totals.in_flight += slot.in_flight.load(Relaxed);
            totals.pending += slot.pending.load(Relaxed);
            totals.copies += slot.copies.load(Relaxed);
            totals.copies_failed += slot.copies_failed.load(Relaxed);
            totals.connections += slot.connections.load(Relaxed);
            totals.connects += slot.connects.load(Relaxed);
            totals.connect_failures += slot.connect_failures.load(Relaxed);
            totals.connections_lost += slot.connections_lost.load(Relaxed);
            totals.cross_locality += slot.cross_locality.load(Relaxed);
            totals.latency_micros += slot.latency_micros.load(Relaxed);
            totals.tunnels += slot.tunnels.load(Relaxed);
            for (total, bytes) in totals.tunnel_bytes.iter_mut().zip(&slot.tunnel_bytes) {
                *total += bytes.load(Relaxed);
            }
            for (total, count) in totals.classes.iter_mut().zip(&slot.classes) {
                *total += count.load(Relaxed);
            }
            for (total, count) in totals.latency.iter_mut().zip(&slot.latency) {
                *total += count.load(Relaxed);
            }
        }
        totals
    }
}

impl Slot {
    /// One more attempt for a request.
    pub fn retried(&self) {
        add(&self.retries, 1);
    }

    /// One more attempt would have been good, and was not allowed.
    pub fn retry_refused(&self) {
        add(&self.retries_refused, 1);
    }

    /// An attempt began while another one ran.
    pub fn hedged(&self) {
        add(&self.hedges, 1);
    }

    /// Such an attempt answered first.
    pub fn hedge_won(&self) {
        add(&self.hedges_won, 1);
    }

    /// A request is repeated from now on.
    pub fn retrying(&self) {
        add(&self.retrying, 1);
    }

    /// A repeated request has its answer.
    pub fn retries_no_more(&self) {
        add(&self.retrying, u64::MAX);
    }

    /// A copy of a request is on its way.
    pub fn copies(&self) {
        add(&self.copying, 1);
    }

    /// A copy of a request is over.
    pub fn copied(&self, answered: bool) {
        add(&self.copying, u64::MAX);
        add(&self.copies, 1);
        if !answered {
            add(&self.copies_failed, 1);
        }
    }

    /// A request waits for room.
    pub fn waits(&self) {
        add(&self.pending, 1);
    }

    /// A request waits no more.
    pub fn waits_no_more(&self) {
        add(&self.pending, u64::MAX);
    }

    /// A connection was opened.
    pub fn connected(&self) {
        add(&self.connects, 1);
        add(&self.connections, 1);
    }

    /// A connection could not be opened.
    pub fn connect_failed(&self) {
        add(&self.connect_failures, 1);
    }

    /// A connection was given up, since its peer does not answer any more.
    pub fn connection_lost(&self) {
        add(&self.connections_lost, 1);
    }

    /// An attempt went to another locality than the sidecar's own.
    pub fn left_locality(&self) {
        add(&self.cross_locality, 1);
    }

    /// A caller's connection is passed through as it is.
    pub fn tunnelled(&self) {
        add(&self.tunnels, 1);
    }

    /// Bytes of such a connection went to the upstream.
    pub fn tunnelled_there(&self, bytes: u64) {
        add(&self.tunnel_bytes[0], bytes);
    }

    /// Bytes of such a connection came back.
    pub fn tunnelled_back(&self, bytes: u64) {
        add(&self.tunnel_bytes[1], bytes);
    }

    /// A connection was closed.
    pub fn disconnected(&self) {
        add(&self.connections, u64::MAX);
    }
}

/// A running request. It ends once: with [`Outcome::end`], or as given up by the caller when it is
/// dropped.
pub struct Outcome {
    counters: Arc<ClusterCounters>,
    worker: usize,
    begun: Instant,
    status: Option<StatusCode>,
    ended: bool,
}

impl Outcome {
    /// Counts the beginning of a request.
    pub fn begin(counters: Arc<ClusterCounters>, worker: usize, begun: Instant) -> Self {
        let slot = counters.slot(worker);
        add(&slot.requests, 1);
        add(&slot.in_flight, 1);
        Self { counters, worker, begun, status: None, ended: false }
    }

    /// The head of the answer came.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// The request is over. `complete` is false where the answer never came or broke off.
    pub fn end(&mut self, complete: bool) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let slot = self.counters.slot(self.worker);
        add(&slot.in_flight, u64::MAX);
        let class = match self.status {
            Some(status) if complete => usize::from(status.as_u16() / 100).clamp(1, 5) - 1,
            _ => 5,
        };
        add(&slot.classes[class], 1);
        if class >= 4 {
            add(&slot.failures, 1);
        }
        let micros = self.begun.elapsed().as_micros() as u64;
        let bucket = BOUNDS_MICROS.iter().position(|&bound| micros <= bound);
        add(&slot.latency[bucket.unwrap_or(BOUNDS_MICROS.len())], 1);
        add(&slot.latency_micros, micros);
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        if !self.ended {
            let slot = self.counters.slot(self.worker);
            add(&slot.in_flight, u64::MAX);
            add(&slot.cancelled, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(workers: usize) -> Arc<ClusterCounters> {
        Counters::new(workers).cluster(&Arc::from("default/chat/v1"), None)
    }

    #[tokio::test]
    async fn each_request_ends_once_and_in_one_class() {
        let counters = cluster(2);
        let begin = |worker| Outcome::begin(Arc::clone(&counters), worker, Instant::now());
        let mut good = begin(0);
        good.answered(StatusCode::OK);
        good.end(true);
        good.end(false);
        drop(good);
        let mut broken = begin(1);
        broken.answered(StatusCode::OK);
        broken.end(false);
        let mut bad = begin(1);
        bad.answered(StatusCode::BAD_GATEWAY);
        bad.end(true);
        drop(begin(0));
        let running = begin(0);
        let totals = counters.totals();
        assert_eq!((totals.requests, totals.failures, totals.cancelled), (5, 2, 1));
        assert_eq!((totals.in_flight, totals.classes), (1, [0, 1, 0, 0, 1, 1]));
        assert_eq!(totals.latency.iter().sum::<u64>(), 3);
        drop(running);
        assert_eq!(counters.totals().in_flight, 0);
    }

    #[tokio::test]
    async fn caps_count_all_workers() {
        let counters = cluster(2);
        let mut running = Vec::new();
        for worker in [0, 0, 0, 1] {
            assert!(counters.admits_request(worker, 4));
            running.push(Outcome::begin(Arc::clone(&counters), worker, Instant::now()));
        }
        assert!(!counters.admits_request(0, 4) && !counters.admits_request(1, 4));
        running.pop();
        assert!(counters.admits_request(0, 4));
    }
}
