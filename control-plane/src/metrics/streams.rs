//! What is counted of the xDS port. Labels are few and fixed, whatever clients say.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use segue_shared::xds_names::type_urls::{
    CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, SNAPSHOT_MARK, VIRTUAL_HOST,
};

use super::UnsignedGauge;

/// Types that have a label of their own; all others are `other`.
const TYPES: [(&str, &str); 7] = [
    (LISTENER, "listener"),
    (ROUTE, "route"),
    (VIRTUAL_HOST, "virtual_host"),
    (CLUSTER, "cluster"),
    (ENDPOINT, "endpoint"),
    (SECRET, "secret"),
    (SNAPSHOT_MARK, "snapshot_mark"),
];

/// Counts of streams and of what they carry; clones share them.
#[derive(Clone, Debug)]
pub struct StreamMetrics(Arc<Counts>);

/// What is counted. Fields that count events are added to where the event is.
#[derive(Debug)]
pub struct Counts {
    open: Family<Kind, UnsignedGauge>,
    opened: Family<Kind, Counter>,
    refused: Family<Reason, Counter>,
    ended: Family<Reason, Counter>,
    pushes: ByType,
    push_bytes: ByType,
    acks: ByType,
    nacks: ByType,
    pub connections: UnsignedGauge,
    /// Snapshots that streams never began because a newer one came.
    pub merged_forward: Counter,
    /// Streams that a newer one of the same node ended, or that share a node id.
    pub duplicate_nodes: Counter,
    pub stalled: UnsignedGauge,
    pub delayed_requests: Counter,
    pub unanswered: Counter,
    pub heartbeats: Counter,
    pub publish_seconds: Histogram,
    pub classes: UnsignedGauge,
    pub compile_problems: UnsignedGauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Type {
    r#type: &'static str,
}

/// One counter for each type of resource, found without a lock.
#[derive(Debug)]
struct ByType {
    known: [Counter; TYPES.len()],
    other: Counter,
}

impl std::ops::Deref for StreamMetrics {
    type Target = Counts;

    fn deref(&self) -> &Counts {
        &self.0
    }
}

impl Default for StreamMetrics {
    /// Counts that nobody reads.
    fn default() -> Self {
        Self::register(&mut Registry::default())
    }
}

impl StreamMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let open = Family::default();
        registry.register("xds_streams", "Open xDS streams by kind of client", open.clone());
        let opened = Family::default();
        registry.register("xds_streams_opened", "xDS streams by kind of client", opened.clone());
        let refused = Family::default();
        registry.register("xds_streams_refused", "xDS streams that were refused", refused.clone());
        let ended = Family::default();
        registry.register("xds_streams_ended", "xDS streams that we ended", ended.clone());
        let mut by_type = |name: &str, help: &str| {
            let family = Family::<Type, Counter>::default();
            registry.register(name, help, family.clone());
            ByType::new(&family)
        };
        let pushes = by_type("xds_pushes", "Responses by type");
        let push_bytes = by_type("xds_push_bytes", "Bytes of responses by type");
        let acks = by_type("xds_acks", "Responses that clients took, by type");
        let nacks = by_type("xds_nacks", "Responses of which clients refused a part, by type");
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = UnsignedGauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let connections = gauge(registry, "xds_connections", "Open connections to the xDS port");
        let stalled = gauge(registry, "xds_streams_stalled", "Streams whose client takes nothing");
        let classes = gauge(registry, "xds_classes", "Classes of nodes with a snapshot");
        let compile_problems = gauge(
            registry,
            "compile_problems",
            "Resources that are too large to be sent, so that an older configuration is",
        );
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let merged_forward = counter(
            registry,
            "xds_snapshots_merged_forward",
            "Snapshots that a stream skipped because a newer one came before it was ready",
        );
        let duplicate_nodes = counter(
            registry,
            "xds_duplicate_nodes",
            "Streams opened under the id of a node that has one open already",
        );
        let delayed_requests =
            counter(registry, "xds_requests_delayed", "Requests read late from hasty clients");
        let unanswered =
            counter(registry, "xds_answers_missing", "Times that a client owed an ACK too long");
        let heartbeats = counter(registry, "xds_heartbeats", "Renewals of resources with a TTL");
        // 1 ms to 16 s.
        let publish_seconds = Histogram::new(exponential_buckets(0.001, 2.0, 15));
        registry.register_with_unit(
            "publish",
            "Time to compile a change and to hand its snapshots to the streams",
            Unit::Seconds,
            publish_seconds.clone(),
        );
        Self(Arc::new(Counts {
            open,
            opened,
            refused,
            ended,
            pushes,
            push_bytes,
            acks,
            nacks,
            connections,
            merged_forward,
            duplicate_nodes,
            stalled,
            delayed_requests,
            unanswered,
            heartbeats,
            publish_seconds,
            classes,
            compile_problems,
        }))
    }
}

impl Counts {
    /// A stream of a kind of client is served from now on.
    pub fn opened(&self, kind: &'static str) {
        self.opened.get_or_create(&Kind { kind }).inc();
        self.open.get_or_create(&Kind { kind }).inc();
    }

    /// A stream that was [`Counts::opened`] is gone.
    pub fn closed(&self, kind: &'static str) {
        self.open.get_or_create(&Kind { kind }).dec();
    }

    /// Open streams of a kind of client.
    pub fn open(&self, kind: &'static str) -> u64 {
        self.open.get_or_create(&Kind { kind }).get()
    }

    /// A stream or a connection was not let in.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// Streams and connections that were not let in for a reason.
    pub fn refusals(&self, reason: &'static str) -> u64 {
        self.refused.get_or_create(&Reason { reason }).get()
    }

    /// We ended a stream.
    pub fn ended(&self, reason: &'static str) {
        self.ended.get_or_create(&Reason { reason }).inc();
    }

    /// Streams that we ended for a reason.
    pub fn endings(&self, reason: &'static str) -> u64 {
        self.ended.get_or_create(&Reason { reason }).get()
    }

    /// A response goes out.
    pub fn pushed(&self, type_url: &str, bytes: usize) {
        self.pushes.of(type_url).inc();
        self.push_bytes.of(type_url).inc_by(bytes as u64);
    }

    /// Responses of a type that went out.
    pub fn pushes(&self, type_url: &str) -> u64 {
        self.pushes.of(type_url).get()
    }

    /// A client answered a response.
    pub fn answered(&self, type_url: &str, took: bool) {
        if took { &self.acks } else { &self.nacks }.of(type_url).inc();
    }

    /// Responses of a type that were refused.
    pub fn nacks(&self, type_url: &str) -> u64 {
        self.nacks.of(type_url).get()
    }
}

impl ByType {
    fn new(family: &Family<Type, Counter>) -> Self {
        let counter = |r#type| family.get_or_create(&Type { r#type }).clone();
        Self { known: TYPES.map(|(_, label)| counter(label)), other: counter("other") }
    }

    fn of(&self, type_url: &str) -> &Counter {
        let known = TYPES.iter().position(|(url, _)| *url == type_url);
        known.map_or(&self.other, |at| &self.known[at])
    }
}
