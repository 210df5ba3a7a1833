//! What is known of the health of endpoints, by all workers together. A request reads it without a
//! lock; locks are taken when an endpoint is ejected or comes back, and when configuration changes.
//!
//! Only endpoints of clusters that eject or probe have any; for others it costs nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{
    AtomicU8, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use segue_sidecar_core::outlier::{Counts, Detector};
use segue_sidecar_core::snapshot::{Cluster, Outlier};
use tokio::time::Instant;
use tracing::{info, warn};

/// The health of all clusters; it outlives snapshots.
pub struct Vitals {
    workers: usize,
    begun: Instant,
    clusters: Mutex<HashMap<Arc<str>, Arc<ClusterVitals>>>,
}

/// The health of the endpoints of one cluster.
pub struct ClusterVitals {
    name: Arc<str>,
    workers: usize,
    begun: Instant,
    /// Counts changes of what may be picked.
    changes: AtomicU64,
    ejections: AtomicU64,
    known: Mutex<Known>,
}

struct Known {
    endpoints: HashMap<SocketAddr, Arc<EndpointVitals>>,
    detector: Detector,
    swept: Duration,
}

/// The health of one endpoint.
pub struct EndpointVitals {
    address: SocketAddr,
    /// [`EJECTED`] and [`SICK`]; 0: it may be picked.
    state: AtomicU8,
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    slots: Box<[VitalSlot]>,
    /// Requests and successes at the last sweep, which alone writes them.
    swept: [AtomicU64; 2],
}

/// What one worker counts. Aligned so that two workers never share a cache line.
#[derive(Default)]
#[repr(align(128))]
struct VitalSlot {
    requests: AtomicU64,
    successes: AtomicU64,
}

const EJECTED: u8 = 1;
const SICK: u8 = 2;

/// What an attempt says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    Good,
    /// An answer of 5xx.
    Error,
    /// 502, 503 or 504, or no answer.
    GatewayError,
}

/// The health of a cluster in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VitalTotals {
    /// Endpoints ejected now.
    pub ejected: u64,
    /// Ejections so far.
    pub ejections: u64,
    /// Endpoints whose probes fail, or that were not probed yet.
    pub sick: u64,
}

impl Vitals {
    /// Nothing is known yet.
    pub fn new(workers: usize) -> Self {
        Self { workers: workers.max(1), begun: Instant::now(), clusters: Mutex::default() }
    }

    /// The health of a cluster, where its configuration asks for any.
    pub fn cluster(&self, cluster: &Cluster) -> Option<Arc<ClusterVitals>> {
        if cluster.traffic.outlier.is_none() && cluster.traffic.probe.is_none() {
            return None;
        }
        let mut clusters = lock(&self.clusters);
        let vitals = clusters.entry(Arc::clone(&cluster.name)).or_insert_with(|| {
            Arc::new(ClusterVitals {
                name: Arc::clone(&cluster.name),
                workers: self.workers,
                begun: self.begun,
                changes: AtomicU64::new(0),
                ejections: AtomicU64::new(0),
                known: Mutex::new(Known {
                    endpoints: HashMap::new(),
                    detector: Detector::default(),
                    swept: self.begun.elapsed(),
                }),
            })
        });
        Some(Arc::clone(vitals))
    }

    /// The health of a cluster by its name, where there is any.
    pub fn by_name(&self, name: &str) -> Option<Arc<ClusterVitals>> {
        lock(&self.clusters).get(name).cloned()
    }

    /// Forgets clusters that are not `wanted`.
    pub fn retain(&self, wanted: impl Fn(&str) -> bool) {
        lock(&self.clusters).retain(|name, _| wanted(name));
    }
}

impl ClusterVitals {
    /// The health of an endpoint; a new one is good, unless it has to be `probed` first.
    pub fn endpoint(&self, address: SocketAddr, probed: bool) -> Arc<EndpointVitals> {
        let mut known = lock(&self.known);
        let endpoint = known.endpoints.entry(address).or_insert_with(|| {
            let slots = (0..self.workers).map(|_| VitalSlot::default()).collect();
            Arc::new(EndpointVitals {
                address,
                state: AtomicU8::new(if probed { SICK } else { 0 }),
                errors: AtomicU32::new(0),
                gateway_errors: AtomicU32::new(0),
                slots,
                swept: [AtomicU64::new(0), AtomicU64::new(0)],
            })
        });
        Arc::clone(endpoint)
    }

    /// Counts the changes of what may be picked.
    pub fn changes(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// Takes a sign of an endpoint. A good one of an endpoint without failures writes nothing but
    /// the worker's own counters.
    pub fn observe(&self, cluster: &Cluster, endpoint: &EndpointVitals, worker: usize, sign: Sign) {
        let Some(policy) = &cluster.traffic.outlier else { return };
        if policy.success_rate.is_some() {
            let slot = &endpoint.slots[worker % endpoint.slots.len()];
            count(&slot.requests);
            if sign == Sign::Good {
                count(&slot.successes);
            }
        }
        let rows = [
            (&endpoint.errors, sign != Sign::Good, policy.consecutive_errors),
            (
                &endpoint.gateway_errors,
                sign == Sign::GatewayError,
                policy.consecutive_gateway_errors,
            ),
        ];
        for (row, failed, most) in rows {
            if !failed {
                if row.load(Relaxed) != 0 {
                    row.store(0, Relaxed);
                }
            } else if row.fetch_add(1, Relaxed) + 1 == most {
                // Also where too many are out already: then the next row is tried again.
                row.store(0, Relaxed);
                self.eject(policy, cluster.endpoints.len(), endpoint);
            }
        }
    }

    fn eject(&self, policy: &Outlier, total: usize, endpoint: &EndpointVitals) {
        let now = self.begun.elapsed();
        if lock(&self.known).detector.eject(policy, total, endpoint.address, now) {
            self.was_ejected(endpoint);
        }
    }

    fn was_ejected(&self, endpoint: &EndpointVitals) {
        endpoint.state.fetch_or(EJECTED, Relaxed);
        self.ejections.fetch_add(1, Relaxed);
        self.changes.fetch_add(1, Release);
        warn!(cluster = %self.name, address = %endpoint.address, "endpoint ejected for its failures");
    }

    /// What a probe found.
    pub fn probed(&self, endpoint: &EndpointVitals, healthy: bool) {
        let before = if healthy {
            endpoint.state.fetch_and(!SICK, Relaxed)
        } else {
            endpoint.state.fetch_or(SICK, Relaxed)
        };
        if (before & SICK == 0) != healthy {
            self.changes.fetch_add(1, Release);
            let address = endpoint.address;
            if healthy {
                info!(cluster = %self.name, %address, "probes of an endpoint pass");
            } else {
                warn!(cluster = %self.name, %address, "probes of an endpoint fail");
            }
        }
    }

    /// What is done once an interval; sooner it does nothing. Endpoints that the cluster does not
    /// have any more are forgotten, and nobody stays out for a policy that is gone.
    pub fn sweep(&self, cluster: &Cluster) {
        let now = self.begun.elapsed();
        let mut known = lock(&self.known);
        let Known { endpoints, detector, swept } = &mut *known;
        let there =
            |address: &SocketAddr| cluster.endpoints.iter().any(|it| it.address == *address);
        if cluster.endpoints.len() < endpoints.len() {
            endpoints.retain(|address, _| there(address));
        }
        if cluster.traffic.probe.is_none() {
            for endpoint in endpoints.values() {
                self.probed(endpoint, true);
            }
        }
        let Some(policy) = &cluster.traffic.outlier else {
            if detector.ejected() > 0 {
                *detector = Detector::default();
                for endpoint in endpoints.values() {
                    self.came_back(endpoint);
                }
            }
            return;
        };
        if now.saturating_sub(*swept) < policy.interval {
            return;
        }
        *swept = now;
        let counts: Vec<(SocketAddr, Counts)> =
            endpoints.iter().map(|(address, endpoint)| (*address, endpoint.counts())).collect();
        let done = detector.sweep(policy, &counts, now);
        for endpoint in done.returned.iter().filter_map(|address| endpoints.get(address)) {
            self.came_back(endpoint);
        }
        for endpoint in done.ejected.iter().filter_map(|address| endpoints.get(address)) {
            self.was_ejected(endpoint);
        }
    }

    fn came_back(&self, endpoint: &EndpointVitals) {
        if endpoint.state.fetch_and(!EJECTED, Relaxed) & EJECTED != 0 {
            endpoint.errors.store(0, Relaxed);
            endpoint.gateway_errors.store(0, Relaxed);
            self.changes.fetch_add(1, Release);
            info!(cluster = %self.name, address = %endpoint.address, "endpoint is back");
        }
    }

    /// The health of the cluster in numbers.
    pub fn totals(&self) -> VitalTotals {
        let known = lock(&self.known);
        let with = |bit: u8| {
            let states = known.endpoints.values().map(|endpoint| endpoint.state.load(Relaxed));
            states.filter(|state| state & bit != 0).count() as u64
        };
        VitalTotals {
            ejected: with(EJECTED),
            ejections: self.ejections.load(Relaxed),
            sick: with(SICK),
        }
    }

    /// Whether an endpoint is ejected, and whether its probes fail.
    pub fn state(&self, address: SocketAddr) -> (bool, bool) {
        let known = lock(&self.known);
        let state = known.endpoints.get(&address).map_or(0, |it| it.state.load(Relaxed));
        (state & EJECTED != 0, state & SICK != 0)
    }
}

impl EndpointVitals {
    /// Whether it may be picked.
    pub fn is_good(&self) -> bool {
        self.state.load(Relaxed) == 0
    }

    /// Requests since the last sweep.
    fn counts(&self) -> Counts {
        let sum = |of: fn(&VitalSlot) -> &AtomicU64| -> u64 {
            self.slots.iter().map(|slot| of(slot).load(Relaxed)).sum()
        };
        let all = [sum(|slot| &slot.requests), sum(|slot| &slot.successes)];
        let [requests, successes] = [0, 1].map(|i| {
            let before = self.swept[i].swap(all[i], Relaxed);
            all[i].saturating_sub(before)
        });
        Counts { requests, successes }
    }
}

/// Only the worker that owns the counter writes it, so no read-modify-write is needed.
fn count(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use segue_sidecar_core::health::Thresholds;
    use segue_sidecar_core::snapshot::{Endpoint, Probe, ProbeKind, SuccessRate, Traffic};

    use super::*;

    fn address(i: u16) -> SocketAddr {
        ([127, 0, 0, 1], 9000 + i).into()
    }

    fn cluster(count: u16, outlier: Outlier) -> Cluster {
        Cluster {
            traffic: Traffic { outlier: Some(outlier), ..Traffic::default() }.into(),
            ..Cluster::new("a".into(), (0..count).map(|i| Endpoint::new(address(i))).collect())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_of_errors_ejects_and_time_brings_back() {
        let (vitals, cluster) = (Vitals::new(2), cluster(10, Outlier::default()));
        let shared = vitals.cluster(&cluster).unwrap();
        let endpoint = shared.endpoint(address(0), false);
        let observe = |sign, times| {
            for worker in 0..times {
                shared.observe(&cluster, &endpoint, worker, sign);
            }
        };
        observe(Sign::Error, 4);
        observe(Sign::Good, 1);
        observe(Sign::Error, 4);
        assert!(endpoint.is_good(), "never five in a row");
        let before = shared.changes();
        observe(Sign::GatewayError, 1);
        assert!(!endpoint.is_good() && shared.changes() > before);
        assert_eq!(shared.totals(), VitalTotals { ejected: 1, ejections: 1, sick: 0 });
        for (seconds, good) in [(20, false), (9, false), (11, true)] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            shared.sweep(&cluster);
            assert_eq!(endpoint.is_good(), good, "after {seconds} more seconds");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn gateway_errors_have_a_row_of_their_own() {
        let policy =
            Outlier { consecutive_errors: 0, consecutive_gateway_errors: 2, ..Outlier::default() };
        let (vitals, cluster) = (Vitals::new(1), cluster(2, policy));
        let shared = vitals.cluster(&cluster).unwrap();
        let endpoint = shared.endpoint(address(0), false);
        for sign in [Sign::GatewayError, Sign::Error, Sign::GatewayError, Sign::Error] {
            shared.observe(&cluster, &endpoint, 0, sign);
        }
        assert!(endpoint.is_good());
        shared.observe(&cluster, &endpoint, 0, Sign::GatewayError);
        shared.observe(&cluster, &endpoint, 0, Sign::GatewayError);
        assert!(!endpoint.is_good());
    }

    #[tokio::test(start_paused = true)]
    async fn rates_are_compared_by_interval_over_all_workers() {
        let policy = Outlier {
            consecutive_errors: 0,
            success_rate: Some(SuccessRate { min_endpoints: 3, ..SuccessRate::default() }),
            ..Outlier::default()
        };
        let (vitals, cluster) = (Vitals::new(2), cluster(6, policy));
        let shared = vitals.cluster(&cluster).unwrap();
        let endpoints: Vec<_> = (0..6).map(|i| shared.endpoint(address(i), false)).collect();
        for request in 0..120 {
            for (i, endpoint) in endpoints.iter().enumerate() {
                let sign = if i == 5 && request % 2 == 0 { Sign::Error } else { Sign::Good };
                shared.observe(&cluster, endpoint, request % 2, sign);
            }
        }
        shared.sweep(&cluster);
        assert!(endpoints.iter().all(|it| it.is_good()), "the interval is not over");
        tokio::time::advance(Duration::from_secs(10)).await;
        shared.sweep(&cluster);
        let good: Vec<bool> = endpoints.iter().map(|it| it.is_good()).collect();
        assert_eq!(good, [true, true, true, true, true, false]);
    }

    #[tokio::test]
    async fn a_policy_that_is_gone_keeps_nobody_out() {
        let (vitals, cluster) = (Vitals::new(1), cluster(2, Outlier::default()));
        let shared = vitals.cluster(&cluster).unwrap();
        let (ejected, sick) =
            (shared.endpoint(address(0), false), shared.endpoint(address(1), true));
        for _ in 0..5 {
            shared.observe(&cluster, &ejected, 0, Sign::Error);
        }
        assert!(!ejected.is_good() && !sick.is_good());
        let probe = Probe {
            kind: ProbeKind::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            thresholds: Thresholds { healthy: 1, unhealthy: 1 },
        };
        let probing = Cluster {
            traffic: Traffic { probe: Some(probe), ..Traffic::default() }.into(),
            ..Cluster::new("a".into(), Arc::clone(&cluster.endpoints))
        };
        shared.sweep(&probing);
        assert!(ejected.is_good() && !sick.is_good());
        shared.sweep(&Cluster::new("a".into(), Arc::clone(&cluster.endpoints)));
        assert!(sick.is_good());
    }
}
