//! How requests to a cluster are spread over its endpoints, and how these are judged.

use std::ops::Range;
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;

use super::SplitKey;
use super::locality::LocalityRule;
use crate::health::Thresholds;
use crate::retry_budget::RetryBudget;

/// What a control plane says about the traffic to a cluster beside its connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    pub algorithm: Algorithm,
    /// What the localities of endpoints mean.
    pub localities: LocalityRule,
    /// Time over which the share of a new endpoint grows; zero: at once.
    pub slow_start: Duration,
    /// Percent of good endpoints below which all are picked. Default 50; 0: never.
    pub panic_percent: u8,
    /// When endpoints are ejected; `None`: never.
    pub outlier: Option<Outlier>,
    /// How endpoints are probed; `None`: they are taken for good.
    pub probe: Option<Probe>,
    pub retry_budget: RetryBudget,
    /// Repetitions at one time; `None`: as the budget allows.
    pub max_retries: Option<u32>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            localities: LocalityRule::default(),
            slow_start: Duration::ZERO,
            panic_percent: 50,
            outlier: None,
            probe: None,
            retry_budget: RetryBudget::default(),
            max_retries: None,
        }
    }
}

/// How an endpoint is picked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// One after the other, by weight.
    #[default]
    RoundRobin,
    /// The least busy of so many draws.
    LeastRequest { choices: u8 },
    /// The one that will answer sooner, of two draws.
    PeakEwma,
    /// By weight.
    Random,
    /// By the hash of a key.
    Hash(Hashing),
}

/// Consistent hashing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashing {
    pub table: TableKind,
    /// What is hashed; `None`: what the route says.
    pub key: Option<SplitKey>,
    /// Percent of the mean load that one endpoint takes before keys go on to the next one, at least
    /// 100; `None`: without limit.
    pub max_load_percent: Option<u32>,
}

/// Kind and size of the table of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// About so many points.
    Ring { least: u32, most: u32 },
    /// So many slots, a prime number.
    Maglev { size: u32 },
}

/// Which endpoint has which keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyTable {
    /// The algorithm does not hash.
    #[default]
    None,
    /// By hash.
    Ring(Box<[RingPoint]>),
    /// Places of endpoints, by the remainder of the hash.
    Maglev(Box<[u32]>),
}

/// A point on a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingPoint {
    pub hash: u64,
    /// Place in the cluster.
    pub endpoint: u32,
}

/// When endpoints are ejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// Answers 5xx, or none at all, in a row. Default 5; 0: never.
    pub consecutive_errors: u32,
    /// Answers 502, 503 or 504, or none at all, in a row. Default 0: never.
    pub consecutive_gateway_errors: u32,
    /// Between sweeps. Default 10 s.
    pub interval: Duration,
    /// Time of the first ejection; each further one is longer by it. Default 30 s.
    pub base_ejection_time: Duration,
    /// Default 300 s.
    pub max_ejection_time: Duration,
    /// Percent of the endpoints that may be out at one time. Default 10.
    pub max_ejected_percent: u8,
    /// Whether one may be out however many there are.
    pub always_one: bool,
    /// `None`: rates are not compared.
    pub success_rate: Option<SuccessRate>,
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            consecutive_errors: 5,
            consecutive_gateway_errors: 0,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_mins(5),
            max_ejected_percent: 10,
            always_one: true,
            success_rate: None,
        }
    }
}

/// Comparison of endpoints by the share of answers that are no errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    /// Endpoints with enough requests, below which nothing is compared. Default 5.
    pub min_endpoints: u32,
    /// Requests within an interval that are enough. Default 100.
    pub min_requests: u32,
    /// Standard deviations below the mean that eject, in thousandths. Default 1,900.
    pub stdev_factor_thousandths: u32,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { min_endpoints: 5, min_requests: 100, stdev_factor_thousandths: 1900 }
    }
}

/// How endpoints are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub kind: ProbeKind,
    /// Between probes of one endpoint.
    pub interval: Duration,
    /// For one probe.
    pub timeout: Duration,
    pub thresholds: Thresholds,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// GET of a path answers one of these statuses.
    Http { host: Option<HeaderValue>, path: PathAndQuery, http2: bool, expected: Box<[Range<i64>]> },
    /// `grpc.health.v1` answers SERVING for a service.
    Grpc { authority: Option<HeaderValue>, service: Box<str> },
    /// A connection can be made.
    Tcp,
}
