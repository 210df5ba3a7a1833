//! What `/metrics` tells. Counts are kept here; states are read when they are asked for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::access::AccessMetrics;
use crate::fleet::Counts;
use crate::identity::IdentityMetrics;

mod streams;

pub use streams::StreamMetrics;

/// The metrics of one control plane; clones share them.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    commits: Counter,
    refused: Counter,
    change_seconds: Histogram,
    revision: UnsignedGauge,
    served_revision: UnsignedGauge,
    sidecars: UnsignedGauge,
    clients: UnsignedGauge,
    behind: UnsignedGauge,
    stale: UnsignedGauge,
    rejections: UnsignedGauge,
    streams: StreamMetrics,
    access: AccessMetrics,
    identity: IdentityMetrics,
    loads_ignored: Counter,
    leader: UnsignedGauge,
    followed: UnsignedGauge,
    heard_seconds: Gauge<f64, AtomicU64>,
}

type UnsignedGauge = Gauge<u64, AtomicU64>;

/// What is read when `/metrics` is asked for.
pub struct State {
    /// The newest revision of the store.
    pub revision: u64,
    /// The newest revision that nodes are offered.
    pub served_revision: u64,
    pub fleet: Counts,
    /// Whether what others commit arrives here.
    pub followed: bool,
    /// Time since the store last said what is newest.
    pub heard: Duration,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("segue_control_plane");
        let commits = Counter::default();
        registry.register("commits", "Revisions committed", commits.clone());
        let refused = Counter::default();
        registry.register("changes_refused", "Changes refused by a check", refused.clone());
        // 1 ms to 8 s.
        let change_seconds = Histogram::new(exponential_buckets(0.001, 2.0, 14));
        registry.register_with_unit(
            "change",
            "Time from a change's arrival to its commit or refusal",
            Unit::Seconds,
            change_seconds.clone(),
        );
        let mut gauge = |name: &str, help: &str| {
            let gauge = UnsignedGauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let revision = gauge("revision", "Newest revision of the store");
        let served_revision = gauge("served_revision", "Newest revision that is streamed");
        let sidecars = gauge("sidecars_connected", "Sidecars that are connected and report");
        let clients = gauge("xds_clients_connected", "Other xDS clients that are connected");
        let behind =
            gauge("sidecars_behind", "Connected sidecars that do not run the newest revision yet");
        let stale = gauge(
            "nodes_stale",
            "Connected nodes that have been on an old revision for longer than a push takes",
        );
        let rejections =
            gauge("resources_rejected", "Resources that connected nodes refuse at the moment");
        let leader = gauge("leader", "Whether this control plane runs the controllers: 1 or 0");
        let followed = gauge(
            "store_followed",
            "Whether what other control planes commit arrives here: 1 or 0",
        );
        let heard_seconds = Gauge::default();
        registry.register_with_unit(
            "store_heard_age",
            "Time since the store last said what is newest",
            Unit::Seconds,
            heard_seconds.clone(),
        );
        let streams = StreamMetrics::register(&mut registry);
        let access = AccessMetrics::default();
        access.register(&mut registry);
        let identity = IdentityMetrics::default();
        identity.register(&mut registry);
        let loads_ignored = Counter::default();
        registry.register(
            "load_reports_ignored",
            "Clusters of load reports that stand for no version, or for too many",
            loads_ignored.clone(),
        );
        let inner = Inner {
            registry,
            commits,
            refused,
            change_seconds,
            revision,
            served_revision,
            sidecars,
            clients,
            behind,
            stale,
            rejections,
            streams,
            access,
            identity,
            loads_ignored,
            leader,
            followed,
            heard_seconds,
        };
        Self { inner: Arc::new(inner) }
    }

    /// What is counted of the xDS port.
    pub fn streams(&self) -> StreamMetrics {
        self.inner.streams.clone()
    }

    /// What the doors of the gRPC ports count.
    pub fn identity(&self) -> &IdentityMetrics {
        &self.inner.identity
    }

    pub fn access(&self) -> &AccessMetrics {
        &self.inner.access
    }

    /// A change was committed.
    pub fn committed(&self) {
        self.inner.commits.inc();
    }

    /// A change was dealt with, one way or the other.
    pub fn change_ended(&self, took: Duration, good: bool) {
        self.inner.change_seconds.observe(took.as_secs_f64());
        if !good {
            self.inner.refused.inc();
        }
    }

    /// This control plane leads from now on, or does not.
    pub fn leads(&self, leads: bool) {
        self.inner.leader.set(u64::from(leads));
    }

    /// All metrics as OpenMetrics text.
    pub fn text(&self, state: &State) -> Result<String, fmt::Error> {
        let inner = &self.inner;
        let set = |gauge: &UnsignedGauge, count: usize| {
            gauge.set(u64::try_from(count).unwrap_or(u64::MAX));
        };
        inner.revision.set(state.revision);
        inner.served_revision.set(state.served_revision);
        inner.followed.set(u64::from(state.followed));
        inner.heard_seconds.set(state.heard.as_secs_f64());
        set(&inner.sidecars, state.fleet.sidecars);
        set(&inner.clients, state.fleet.clients);
        set(&inner.behind, state.fleet.behind);
        set(&inner.stale, state.fleet.stale);
        set(&inner.rejections, state.fleet.rejections);
        let ignored = u64::try_from(state.fleet.loads_ignored).unwrap_or(u64::MAX);
        inner.loads_ignored.inner().store(ignored, Ordering::Relaxed);
        let mut text = String::new();
        encode(&mut text, &inner.registry)?;
        Ok(text)
    }
}
