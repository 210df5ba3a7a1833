//! Certificates that were issued, and those that were not.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of the authority; clones share them.
#[derive(Clone, Debug, Default)]
pub struct IdentityMetrics {
    issued: Counter,
    refused: Family<Refused, Counter>,
    rotation_step: Gauge<u64, AtomicU64>,
    rotation_waiting: Gauge<u64, AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

impl IdentityMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "issued_certificates",
            "Certificates that workloads were given",
            self.issued.clone(),
        );
        registry.register(
            "refused_certificates",
            "Requests for certificates that were refused",
            self.refused.clone(),
        );
        registry.register(
            "root_rotation_step",
            "Step of the rotation of the root: 0 none, 1 distribute, 2 issue, 3 drop",
            self.rotation_step.clone(),
        );
        registry.register(
            "root_rotation_waiting",
            "Instances that the next step of the rotation waits for",
            self.rotation_waiting.clone(),
        );
    }

    pub fn issued(&self) {
        self.issued.inc();
    }

    /// How far a rotation of the root is, and how many it waits for.
    pub fn rotation(&self, step: u64, waiting: usize) {
        self.rotation_step.set(step);
        self.rotation_waiting.set(waiting as u64);
    }

    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Refused { reason }).inc();
    }
}
