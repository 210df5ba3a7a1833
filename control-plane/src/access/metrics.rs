//! What was refused, and how the files behind the decisions fare.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of access; clones share them.
#[derive(Clone, Debug, Default)]
pub struct AccessMetrics {
    refused: Family<Refused, Counter>,
    connections: Family<Refused, Counter>,
    ended_connections: Family<Refused, Counter>,
    pub admin_connections: Gauge<u64, AtomicU64>,
    reloads: Family<Reload, Counter>,
    audit_lost: Family<Lost, Counter>,
}

/// One of the two gRPC ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Admin,
    Xds,
}

impl Port {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Xds => "xds",
        }
    }
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoCredential,
    WrongToken,
    ExpiredToken,
    UnknownCertificate,
    Role,
    Namespace,
    Busy,
    Deadline,
}

impl Refusal {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCredential => "no_credential",
            Self::WrongToken => "wrong_token",
            Self::ExpiredToken => "expired_token",
            Self::UnknownCertificate => "unknown_certificate",
            Self::Role => "role",
            Self::Namespace => "namespace",
            Self::Busy => "busy",
            Self::Deadline => "deadline",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    port: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    what: &'static str,
    good: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lost {
    reason: &'static str,
}

impl AccessMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "refused_calls",
            "Calls that access or limits refused",
            self.refused.clone(),
        );
        registry.register(
            "refused_connections",
            "Connections that ended before their first call",
            self.connections.clone(),
        );
        registry.register(
            "ended_connections",
            "Connections that ended for their age or because their certificate counts no longer",
            self.ended_connections.clone(),
        );
        registry.register(
            "admin_connections",
            "Open connections to the admin port",
            self.admin_connections.clone(),
        );
        registry.register(
            "audit_lines_lost",
            "Lines that the audit log could not keep",
            self.audit_lost.clone(),
        );
        registry.register(
            "access_reloads",
            "Times that files of tokens, rights or certificates changed and were read again",
            self.reloads.clone(),
        );
    }

    pub fn refused(&self, port: Port, reason: Refusal) {
        let refused = Refused { port: port.as_str(), reason: reason.as_str() };
        self.refused.get_or_create(&refused).inc();
    }

    pub fn refused_connection(&self, port: Port, reason: &'static str) {
        self.connections.get_or_create(&Refused { port: port.as_str(), reason }).inc();
    }

    pub fn ended_connection(&self, port: Port, reason: &'static str) {
        self.ended_connections.get_or_create(&Refused { port: port.as_str(), reason }).inc();
    }

    pub fn audit_lost(&self, reason: &'static str, lines: u64) {
        self.audit_lost.get_or_create(&Lost { reason }).inc_by(lines);
    }

    pub fn reloaded(&self, what: &'static str, good: bool) {
        self.reloads.get_or_create(&Reload { what, good }).inc();
    }
}
