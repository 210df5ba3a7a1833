//! What became of the connections of a port, for the metrics and the log.

use std::net::SocketAddr;
use std::sync::Arc;

use super::metrics::{AccessMetrics, Port};
use super::pace::Pace;

/// Counts and tells; clones share it.
#[derive(Clone, Debug)]
pub struct Endings {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    port: Port,
    metrics: AccessMetrics,
    pace: Pace,
}

impl Endings {
    pub fn of(port: Port, metrics: AccessMetrics) -> Self {
        Self { inner: Arc::new(Inner { port, metrics, pace: Pace::of_logs() }) }
    }

    pub fn port(&self) -> Port {
        self.inner.port
    }

    /// A connection ended before its first call.
    pub fn refused(&self, address: SocketAddr, reason: &'static str, error: &str) {
        let Inner { port, metrics, pace } = &*self.inner;
        metrics.refused_connection(*port, reason);
        if pace.allows() {
            let port = port.as_str();
            tracing::warn!(%address, port, reason, error, "a connection was refused");
        }
    }

    /// We ended a connection that could carry calls.
    pub fn ended(&self, address: SocketAddr, reason: &'static str) {
        let Inner { port, metrics, pace } = &*self.inner;
        metrics.ended_connection(*port, reason);
        if pace.allows() {
            tracing::info!(%address, port = port.as_str(), reason, "a connection was ended");
        }
    }
}
