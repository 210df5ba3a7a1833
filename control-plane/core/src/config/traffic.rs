//! Checks of a `TrafficPolicy`: balancing, connections, ejection, health.

use segue_proto::config::v1::load_balancer::Algorithm;
use segue_proto::config::v1::split_by::Key;
use segue_proto::config::v1::{HealthCheck, LoadBalancer, OutlierDetection, TrafficPolicySpec};
use segue_shared::ids::ServiceName;

use super::lookup::{Scope, Services};
use super::mesh;
use super::time::to_duration;

/// The service and how callers talk to it.
pub(super) fn check(
    scope: &mut Scope<'_>,
    services: &Services<'_>,
    spec: &TrafficPolicySpec,
) -> Option<(ServiceName, mesh::TrafficPolicy)> {
    if let Some(balancer) = &spec.load_balancer {
        check_balancer(scope, balancer);
    }
    if let Some(outlier) = &spec.outlier_detection {
        check_outlier(scope, outlier);
    }
    if let Some(health) = &spec.health_check {
        check_health(scope, health);
    }
    if let Some(tls) = &spec.tls {
        scope.no_wildcard(&tls.sni, "spec.tls.sni");
    }
    let service = scope.target(services, spec.target_ref.as_ref(), "spec.targetRef")?;
    let pool = spec.connection_pool.unwrap_or_default();
    let policy = mesh::TrafficPolicy {
        connect_timeout: pool.connect_timeout.map(to_duration),
        max_connections: pool.max_connections,
        max_pending_requests: pool.max_pending_requests,
        max_requests: pool.max_requests,
        idle_timeout: pool.idle_timeout.map(to_duration),
    };
    Some((service, policy))
}

fn check_balancer(scope: &mut Scope<'_>, balancer: &LoadBalancer) {
    let path = "spec.loadBalancer.hashBy";
    let hashes = matches!(balancer.algorithm(), Algorithm::RingHash | Algorithm::Maglev);
    match &balancer.hash_by {
        None if hashes => scope.fault(
            path,
            "RingHash and Maglev need something to hash",
            "such as hashBy: {header: x-user-id}",
        ),
        Some(_) if !hashes => scope.fault(
            path,
            "this algorithm hashes nothing",
            "remove hashBy, or use RingHash or Maglev",
        ),
        Some(by) if matches!(by.key, Some(Key::Random(_))) => {
            scope.fault(path, "a random hash picks at random", "remove it, or name a header");
        }
        _ => {}
    }
}

fn check_outlier(scope: &mut Scope<'_>, outlier: &OutlierDetection) {
    if let (Some(base), Some(max)) = (outlier.base_ejection_time, outlier.max_ejection_time)
        && to_duration(base) > to_duration(max)
    {
        scope.fault(
            "spec.outlierDetection.baseEjectionTime",
            "the first ejection is longer than the longest",
            "baseEjectionTime is at most maxEjectionTime",
        );
    }
}

fn check_health(scope: &mut Scope<'_>, health: &HealthCheck) {
    if let (Some(interval), Some(timeout)) = (health.interval, health.timeout)
        && to_duration(timeout) > to_duration(interval)
    {
        scope.fault(
            "spec.healthCheck.timeout",
            "a probe would run longer than the time to the next",
            "timeout is at most interval",
        );
    }
}
