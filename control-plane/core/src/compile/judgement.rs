//! How the endpoints of a cluster are judged, in Envoy's words: outlier detection, health checks, and
//! how much may be repeated.

use envoy_types::pb::envoy::config::cluster::v3::OutlierDetection;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::CommonLbConfig;
use envoy_types::pb::envoy::config::core::v3::HealthCheck;
use envoy_types::pb::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck, TcpHealthCheck,
};
use envoy_types::pb::envoy::r#type::v3::{CodecClientType, Int64Range, Percent};
use envoy_types::pb::google::protobuf::{BoolValue, UInt32Value};

use super::extension::duration;
use super::localities;
use crate::config::mesh::{self, Balancer, Outlier, Probe, Protocol, RetryBudget, Service};

pub(super) fn outlier(policy: &Outlier) -> OutlierDetection {
    let enforced = |on: bool| number(if on { 100 } else { 0 });
    let rate = policy.success_rate.as_ref();
    OutlierDetection {
        // Zero is refused; what is not enforced is never reached.
        consecutive_5xx: number(policy.consecutive_errors.max(1)),
        enforcing_consecutive_5xx: enforced(policy.consecutive_errors > 0),
        consecutive_gateway_failure: number(policy.consecutive_gateway_errors.max(1)),
        enforcing_consecutive_gateway_failure: enforced(policy.consecutive_gateway_errors > 0),
        enforcing_success_rate: enforced(rate.is_some()),
        success_rate_minimum_hosts: rate.and_then(|rate| number(rate.min_endpoints)),
        success_rate_request_volume: rate.and_then(|rate| number(rate.min_requests)),
        success_rate_stdev_factor: rate.and_then(|rate| number(rate.stdev_factor_thousandths)),
        interval: Some(duration(policy.interval)),
        base_ejection_time: Some(duration(policy.base_ejection_time)),
        max_ejection_time: Some(duration(policy.max_ejection_time)),
        max_ejection_percent: number(u32::from(policy.max_ejected_percent)),
        always_eject_one_host: Some(BoolValue { value: true }),
        // A probe says nothing about what requests met.
        successful_active_health_check_uneject_host: Some(BoolValue { value: false }),
        ..OutlierDetection::default()
    }
}

pub(super) fn probe(check: &mesh::HealthCheck, service: &Service) -> HealthCheck {
    let speaks_http2 = matches!(service.protocol, Protocol::Http2 | Protocol::Grpc);
    let codec = if speaks_http2 { CodecClientType::Http2 } else { CodecClientType::Http1 };
    let host = service.name.name.clone();
    let checker = match &check.probe {
        Probe::Http(path) => HealthChecker::HttpHealthCheck(HttpHealthCheck {
            host,
            path: path.clone(),
            expected_statuses: vec![Int64Range { start: 200, end: 300 }],
            codec_client_type: codec as i32,
            ..HttpHealthCheck::default()
        }),
        Probe::Grpc(asked) => HealthChecker::GrpcHealthCheck(GrpcHealthCheck {
            service_name: asked.clone(),
            authority: host,
            ..GrpcHealthCheck::default()
        }),
        Probe::Tcp => HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
    };
    let interval = Some(duration(check.interval));
    HealthCheck {
        timeout: Some(duration(check.timeout)),
        interval,
        // Envoy would probe what nobody calls only once a minute.
        no_traffic_interval: interval,
        unhealthy_threshold: number(check.unhealthy_threshold),
        healthy_threshold: number(check.healthy_threshold),
        health_checker: Some(checker),
        ..HealthCheck::default()
    }
}

/// What all algorithms have in common; `None` where that is what every client does unasked.
pub(super) fn common(balancer: &Balancer) -> Option<CommonLbConfig> {
    let panic = balancer.panic_percent;
    let common = CommonLbConfig {
        healthy_panic_threshold: panic.map(|percent| Percent { value: f64::from(percent) }),
        locality_config_specifier: localities::common(balancer.localities),
        ..CommonLbConfig::default()
    };
    (common != CommonLbConfig::default()).then_some(common)
}

pub(super) fn retry_budget(budget: RetryBudget) -> thresholds::RetryBudget {
    thresholds::RetryBudget {
        budget_percent: Some(Percent { value: f64::from(budget.percent) }),
        min_retry_concurrency: number(budget.min_per_second),
        ..thresholds::RetryBudget::default()
    }
}

// Fields of Envoy's are optional messages.
#[allow(clippy::unnecessary_wraps)]
fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}
