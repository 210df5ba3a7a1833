//! `Cluster`: one version of a service and how to talk to it.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster};
use envoy_types::pb::envoy::config::core::v3::{Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as Common};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions,
};
use envoy_types::pb::google::protobuf::UInt32Value;
use segue_shared::extension::pack_as;
use segue_shared::spiffe::TrustDomain;

use super::extension::{ads, duration, same_server};
use super::{NodeKind, balancer, judgement, tls};
use crate::config::mesh::{Protocol, Service, TrafficPolicy};

/// Time to establish a connection where no policy says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The cluster of one version. gRPC gets only what it knows.
pub(super) fn compile(
    name: &str,
    service: &Service,
    traffic: Option<&TrafficPolicy>,
    kind: NodeKind,
    domain: &TrustDomain,
) -> Cluster {
    let tls = traffic.and_then(|policy| policy.tls.as_ref());
    let plain = Cluster {
        load_balancing_policy: traffic.and_then(|it| balancer::compile(&it.balancer, kind)),
        transport_socket: tls.map(|tls| tls::compile(tls, service, kind, domain)),
        ..of_endpoints(name)
    };
    if kind == NodeKind::Grpc {
        return Cluster {
            circuit_breakers: traffic.and_then(circuit_breakers),
            // Its calls are counted by cluster and reported on the same server.
            lrs_server: Some(same_server()),
            ..plain
        };
    }
    let timeout = traffic.and_then(|policy| policy.connect_timeout).unwrap_or(CONNECT_TIMEOUT);
    let probed = traffic.and_then(|policy| policy.health_check.as_ref());
    Cluster {
        common_lb_config: traffic.and_then(|policy| judgement::common(&policy.balancer)),
        outlier_detection: traffic.and_then(|it| it.outlier.as_ref()).map(judgement::outlier),
        health_checks: probed.into_iter().map(|it| judgement::probe(it, service)).collect(),
        connect_timeout: Some(duration(timeout)),
        circuit_breakers: traffic.and_then(circuit_breakers),
        // One entry, because the order of several would not be fixed.
        typed_extension_protocol_options: http_options(service.protocol, traffic)
            .map(|options| {
                let url = segue_shared::extension::type_url(HTTP_OPTIONS);
                (HTTP_OPTIONS.to_owned(), pack_as(&url, &options))
            })
            .into_iter()
            .collect(),
        ..plain
    }
}

/// A cluster whose endpoints come on the same stream, under its name.
pub(super) fn of_endpoints(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ads()),
            ..EdsClusterConfig::default()
        }),
        ..Cluster::default()
    }
}

/// `None` where no cap is set: every client has its own default.
fn circuit_breakers(policy: &TrafficPolicy) -> Option<CircuitBreakers> {
    let cap = |value: Option<u32>| value.map(|value| UInt32Value { value });
    let thresholds = Thresholds {
        max_connections: cap(policy.max_connections),
        max_pending_requests: cap(policy.max_pending_requests),
        max_requests: cap(policy.max_requests),
        retry_budget: policy.retry_budget.map(judgement::retry_budget),
        ..Thresholds::default()
    };
    let set = thresholds != Thresholds::default();
    set.then(|| CircuitBreakers { thresholds: vec![thresholds], ..CircuitBreakers::default() })
}

/// `None` for plain HTTP/1.1 and TCP without any option.
fn http_options(
    protocol: Protocol,
    traffic: Option<&TrafficPolicy>,
) -> Option<HttpProtocolOptions> {
    let times = traffic.map(|policy| Common {
        idle_timeout: policy.idle_timeout.map(duration),
        max_connection_duration: policy.max_age.map(duration),
        ..Common::default()
    });
    let times = times.filter(|times| *times != Common::default());
    let secured = traffic.is_some_and(|policy| policy.tls.is_some());
    let config = match protocol {
        // Workloads of the mesh share connections, whatever their applications speak.
        Protocol::Http | Protocol::Mcp | Protocol::Llm if secured => {
            ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())
        }
        Protocol::Http2 | Protocol::Grpc => {
            ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())
        }
        Protocol::Http | Protocol::Mcp | Protocol::Llm if times.is_some() => {
            ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())
        }
        _ => return None,
    };
    let explicit = ExplicitHttpConfig { protocol_config: Some(config) };
    Some(HttpProtocolOptions {
        common_http_protocol_options: times,
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        ..HttpProtocolOptions::default()
    })
}
