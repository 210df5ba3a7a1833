//! How callers talk to a service: what is declared and applied today. The rest of the message is kept
//! in the store and takes effect with its own capability.

use std::time::Duration;

use super::SplitBy;

/// A policy for all versions of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficPolicy {
    pub balancer: Balancer,
    pub connect_timeout: Option<Duration>,
    pub max_connections: Option<u32>,
    pub max_pending_requests: Option<u32>,
    pub max_requests: Option<u32>,
    pub idle_timeout: Option<Duration>,
    /// Age at which a connection is replaced.
    pub max_age: Option<Duration>,
    pub outlier: Option<Outlier>,
    pub health_check: Option<HealthCheck>,
    pub retry_budget: Option<RetryBudget>,
    /// `None`: plain text.
    pub tls: Option<UpstreamTls>,
}

/// How connections to a service are secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamTls {
    /// By identities of the mesh at both ends.
    Mesh {
        /// `None`: the service's own name.
        server_name: Option<String>,
    },
}

/// How an endpoint is picked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balancer {
    pub algorithm: Algorithm,
    /// Zero: new endpoints get their whole share at once.
    pub slow_start: Duration,
    /// Percent of good endpoints below which all are picked; `None`: as every client does.
    pub panic_percent: Option<u8>,
    /// What the places of endpoints mean.
    pub localities: Localities,
}

/// What the places of endpoints mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Localities {
    #[default]
    Ignored,
    /// Each takes its weight.
    Weighted,
    /// Requests stay where they are as far as there is room.
    ZoneAware {
        min_endpoints: u32,
        /// `None`: no number is enough for all of them.
        all_local_from: Option<u32>,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    #[default]
    RoundRobin,
    LeastRequest,
    PeakEwma,
    Random,
    RingHash(Hashing),
    Maglev(Hashing),
}

/// Consistent hashing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashing {
    /// What is hashed.
    pub by: SplitBy,
    /// Percent of the mean load that one endpoint takes, at least 100; `None`: without limit.
    pub max_load_percent: Option<u32>,
}

/// When endpoints are ejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// 0: never.
    pub consecutive_errors: u32,
    /// 0: never.
    pub consecutive_gateway_errors: u32,
    pub interval: Duration,
    pub base_ejection_time: Duration,
    pub max_ejection_time: Duration,
    pub max_ejected_percent: u8,
    pub success_rate: Option<SuccessRate>,
}

/// Comparison of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    pub min_endpoints: u32,
    pub min_requests: u32,
    pub stdev_factor_thousandths: u32,
}

/// How endpoints are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub probe: Probe,
    pub interval: Duration,
    pub timeout: Duration,
    pub unhealthy_threshold: u32,
    pub healthy_threshold: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// GET of this path.
    Http(String),
    /// Health of this service; empty: of the whole server.
    Grpc(String),
    Tcp,
}

/// How much may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Repetitions in a hundred requests.
    pub percent: u8,
    pub min_per_second: u32,
}
