//! Certificates that were issued, and those that were not.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counters of the authority; clones share them.
#[derive(Clone, Debug, Default)]
pub struct IdentityMetrics {
    issued: Counter,
    refused: Family<Refused, Counter>,
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
    }

    pub fn issued(&self) {
        self.issued.inc();
    }

    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Refused { reason }).inc();
    }
}
