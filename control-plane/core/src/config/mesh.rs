//! Everything that platform teams declared, at one revision, checked and typed. Generated types do
//! not pass beyond this point.

mod traffic;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use segue_shared::ids::{Revision, ServiceName, VersionLabel};

pub use traffic::{
    Algorithm, Balancer, Hashing, HealthCheck, Localities, Outlier, Probe, RetryBudget,
    SuccessRate, TrafficPolicy, UpstreamTls,
};

/// The whole configuration. Its maps share what did not change with the configuration before it, so
/// that a comparison of the two costs what changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeshConfig {
    pub revision: Revision,
    pub services: OrdMap<ServiceName, Arc<Service>>,
    /// By the service that they are about.
    pub routes: OrdMap<ServiceName, Arc<Route>>,
    /// By the service that they are about.
    pub traffic: OrdMap<ServiceName, Arc<TrafficPolicy>>,
    /// By the service that they are about.
    pub sessions: OrdMap<ServiceName, Arc<Sessions>>,
    /// By the service whose callers meet them.
    pub faults: OrdMap<ServiceName, Arc<Faults>>,
    /// By the service whose callers have to show it.
    pub mtls: OrdMap<ServiceName, Mtls>,
}

/// What callers of a service have to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mtls {
    /// An identity of the mesh.
    Strict,
    /// An identity where they speak TLS; plain text is taken as well.
    Permissive,
    /// Nothing.
    Off,
}

/// Faults made on purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub delay: Option<Delay>,
    pub abort: Option<Abort>,
}

/// Time added to a share of the requests, in hundredths of a percent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delay {
    pub time: Duration,
    pub share: u16,
}

/// An answer to a share of the requests, in hundredths of a percent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abort {
    pub status: u16,
    pub share: u16,
}

/// A logical upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub name: ServiceName,
    pub protocol: Protocol,
    /// Further host names, lower-case.
    pub hosts: Vec<String>,
    pub port: u16,
    /// The oldest first; never empty.
    pub versions: Vec<Version>,
    pub default_version: VersionLabel,
    /// `None`: all services.
    pub depends_on: Option<Vec<ServiceName>>,
}

/// What endpoints speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Http2,
    Grpc,
    Tcp,
    Mcp,
    Llm,
}

/// One version.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    pub label: VersionLabel,
    /// Those of which it is not known where they are.
    pub endpoints: Vec<SocketAddr>,
    pub localities: Vec<LocalEndpoints>,
    /// Host and port to be resolved.
    pub dns: Option<(String, u16)>,
}

/// Instances in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalEndpoints {
    pub region: String,
    pub zone: String,
    pub sub_zone: String,
    pub endpoints: Vec<SocketAddr>,
    /// `None`: as many as there are endpoints.
    pub weight: Option<u32>,
}

/// How requests to a service reach its versions.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// `namespace/name` of the resource.
    pub name: ServiceName,
    pub split_by: SplitBy,
    /// In the order written.
    pub rules: Vec<Rule>,
}

/// What splits callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitBy {
    Random,
    Header(String),
    Cookie(String),
}

/// What a session of a service is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// The first that a request has is its session's id. A split without a key of its own uses the
    /// first that it can.
    pub keys: Vec<SessionKey>,
    /// `None`: sessions are bound to nothing.
    pub pin: Option<Pin>,
}

/// To what a session is bound, as far as other proxies can bind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Age at which the session is over.
    pub max_age: Duration,
}

/// Where a session's id is found, as far as a split can use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionKey {
    Header(String),
    Cookie(String),
    /// The session of the Model Context Protocol.
    Mcp,
    /// A place that only the context layer reads.
    Other,
}

/// Requests that match go to the backends.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: String,
    /// Any of them; never empty (the default matches prefix `/`).
    pub matches: Vec<Match>,
    pub filters: Filters,
    /// Empty only where a redirect answers.
    pub backends: Vec<Backend>,
    /// `None`: without limit.
    pub timeout: Option<Duration>,
    /// `None`: as `timeout`.
    pub try_timeout: Option<Duration>,
    /// `None`: as every client does. Zero: without limit.
    pub stream_idle: Option<Duration>,
    pub retry: Option<Retry>,
}

/// Conditions that all hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    pub path: PathMatch,
    pub headers: Vec<(String, ValueMatch)>,
    pub query: Vec<(String, ValueMatch)>,
    pub method: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    Prefix(String),
    Exact(String),
    Regex(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueMatch {
    Exact(String),
    Regex(String),
}

/// What a rule changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filters {
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    pub mirror: Option<Mirror>,
    pub redirect: Option<Redirect>,
    pub host_rewrite: Option<String>,
    pub path_rewrite: Option<PathRewrite>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    pub service: ServiceName,
    pub version: VersionLabel,
    /// Hundredths of a percent, 0 to 10,000.
    pub share: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub status: u16,
    pub scheme: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub path: Option<PathRewrite>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    Full(String),
    Prefix(String),
}

/// One version and its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub service: ServiceName,
    pub version: VersionLabel,
    /// As written; shares are relative to the sum of the rule.
    pub weight: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    pub statuses: Vec<u16>,
    pub attempts: u32,
    pub backoff: Duration,
    /// Time without an answer after which the next attempt begins beside the others.
    pub hedge_after: Option<Duration>,
}
