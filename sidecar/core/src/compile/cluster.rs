//! `Cluster`.
//!
//! | field | taken |
//! |---|---|
//! | `type`, `cluster_type`, fields of DNS | see `discovery` |
//! | `connect_timeout` | yes, default 5 s |
//! | `circuit_breakers.thresholds[]` of default priority | `max_connections`, `max_pending_requests`, `max_requests`; for retries see `judgement` |
//! | `typed_extension_protocol_options`: `HttpProtocolOptions` | `explicit_http_config` with HTTP/1 or HTTP/2, `common_http_protocol_options`: `idle_timeout`, `max_connection_duration` (0 = none) |
//! | `http2_protocol_options` | its presence |
//! | `lb_policy`, `load_balancing_policy`, `common_lb_config` | see `balancer` |
//! | `transport_socket` | see `tls` |
//! | `transport_socket_matches` | refused, but for raw buffer |
//! | `lb_subset_config`, `filters`, `upstream_bind_config` | refused |
//! | `health_checks`, `outlier_detection` | see `judgement` |
//! | `alt_stat_name`, other limits and times | ignored: they tune |

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as PbCluster;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
};
use segue_shared::extension::unpack;
use segue_shared::ids::{ServiceName, VersionLabel};
use segue_shared::xds_names::parse_cluster;

use super::balancer;
use super::discovery::{EndpointSource, source};
use super::field::{duration, refuse, unsupported};
use super::judgement;
use super::tls::upstream;
use crate::reject::Fault;
use crate::snapshot::{HttpVersion, PoolLimits, Traffic, UpstreamTls};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// `max_connection_duration: 0` turns the limit off.
const LONGEST_AGE: Duration = Duration::from_hours(24 * 365);
/// `idle_timeout: 0` turns the timeout off; a pool still lets go of a connection some day.
const LONGEST_IDLE: Duration = Duration::from_hours(1);

/// A cluster whose endpoints may come apart from it.
#[derive(Debug, PartialEq)]
pub struct ClusterSpec {
    pub name: Arc<str>,
    pub version: Option<(ServiceName, VersionLabel)>,
    pub http: HttpVersion,
    pub tls: Option<Arc<UpstreamTls>>,
    pub connect_timeout: Duration,
    pub limits: PoolLimits,
    pub traffic: Arc<Traffic>,
    pub source: EndpointSource,
}

pub(crate) fn cluster(message: &PbCluster) -> Result<ClusterSpec, Fault> {
    if message.name.is_empty() {
        return Err(Fault::at("name", "must be set"));
    }
    refuse(message.lb_subset_config.is_some(), "lb_subset_config")?;
    refuse(!message.filters.is_empty(), "filters")?;
    refuse(message.upstream_bind_config.is_some(), "upstream_bind_config")?;
    let tls = secured(message)?;
    let mut traffic = Traffic::default();
    balancer::spread(message, &mut traffic)?;
    judgement::judge(message, &mut traffic)?;
    let mut limits = limits(message);
    let http = protocol(message, &mut limits)?;
    let connect_timeout = match &message.connect_timeout {
        Some(timeout) => duration("connect_timeout", timeout)?,
        None => DEFAULT_CONNECT_TIMEOUT,
    };
    if connect_timeout.is_zero() {
        return Err(Fault::at("connect_timeout", "must be greater than 0"));
    }
    Ok(ClusterSpec {
        name: message.name.as_str().into(),
        version: parse_cluster(&message.name),
        http,
        tls,
        connect_timeout,
        limits,
        traffic: traffic.into(),
        source: source(message)?,
    })
}

fn secured(message: &PbCluster) -> Result<Option<Arc<UpstreamTls>>, Fault> {
    for (i, entry) in message.transport_socket_matches.iter().enumerate() {
        let under = format!("transport_socket_matches[{i}].transport_socket");
        let socket = entry.transport_socket.as_ref().map(upstream).transpose();
        if socket.map_err(|fault| fault.under(&under))?.flatten().is_some() {
            return Err(Fault::at(under.as_str(), "TLS for some endpoints only is not supported"));
        }
    }
    let socket = message.transport_socket.as_ref().map(upstream).transpose();
    Ok(socket.map_err(|fault| fault.under("transport_socket"))?.flatten())
}

fn limits(message: &PbCluster) -> PoolLimits {
    let mut limits = PoolLimits::default();
    let thresholds = message.circuit_breakers.iter().flat_map(|breakers| &breakers.thresholds);
    // Priority 0 is DEFAULT; HIGH has no requests here.
    for threshold in thresholds.filter(|threshold| threshold.priority == 0) {
        for (limit, value) in [
            (&mut limits.max_connections, &threshold.max_connections),
            (&mut limits.max_pending_requests, &threshold.max_pending_requests),
            (&mut limits.max_requests, &threshold.max_requests),
        ] {
            if let Some(value) = value {
                *limit = value.value;
            }
        }
    }
    limits
}

#[allow(deprecated)]
fn protocol(message: &PbCluster, limits: &mut PoolLimits) -> Result<HttpVersion, Fault> {
    let mut http = if message.http2_protocol_options.is_some() {
        HttpVersion::Http2
    } else {
        HttpVersion::Http1
    };
    let mut entries: Vec<_> = message.typed_extension_protocol_options.iter().collect();
    entries.sort_unstable_by_key(|(name, _)| *name);
    for (name, any) in entries {
        let under = format!("typed_extension_protocol_options[{name:?}]");
        let options: HttpProtocolOptions = unpack(any, HTTP_OPTIONS)
            .map_err(|error| Fault::at(under.as_str(), error.to_string()))?;
        http = http_options(&options, limits).map_err(|fault| fault.under(&under))?;
    }
    Ok(http)
}

fn http_options(
    options: &HttpProtocolOptions,
    limits: &mut PoolLimits,
) -> Result<HttpVersion, Fault> {
    let common = options.common_http_protocol_options.as_ref();
    if let Some(idle) = common.and_then(|common| common.idle_timeout.as_ref()) {
        let idle = duration("common_http_protocol_options.idle_timeout", idle)?;
        limits.idle_timeout = if idle.is_zero() { LONGEST_IDLE } else { idle.min(LONGEST_IDLE) };
    }
    if let Some(age) = common.and_then(|common| common.max_connection_duration.as_ref()) {
        let age = duration("common_http_protocol_options.max_connection_duration", age)?;
        limits.max_age = if age.is_zero() { LONGEST_AGE } else { age.min(LONGEST_AGE) };
    }
    match &options.upstream_protocol_options {
        None => Ok(HttpVersion::Http1),
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => {
            match &explicit.protocol_config {
                None | Some(ProtocolConfig::HttpProtocolOptions(_)) => Ok(HttpVersion::Http1),
                Some(ProtocolConfig::Http2ProtocolOptions(_)) => Ok(HttpVersion::Http2),
                Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                    Err(unsupported("explicit_http_config.http3_protocol_options"))
                }
            }
        }
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(_)) => {
            Err(unsupported("use_downstream_protocol_config"))
        }
        Some(UpstreamProtocolOptions::AutoConfig(_)) => Err(unsupported("auto_config")),
    }
}
