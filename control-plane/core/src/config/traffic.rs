//! Checks of a `TrafficPolicy`: balancing, connections, ejection, health.

use std::time::Duration;

use segue_proto::config::v1::health_check::Probe as Asked;
use segue_proto::config::v1::load_balancer::Algorithm;
use segue_proto::config::v1::localities::Mode;
use segue_proto::config::v1::split_by::Key;
use segue_proto::config::v1::upstream_tls::Mode as TlsMode;
use segue_proto::config::v1::{
    HealthCheck, LoadBalancer, Localities, OutlierDetection, Protocol, ServiceSpec, SplitBy,
    TrafficPolicySpec, UpstreamTls,
};
use segue_shared::ids::ServiceName;

use super::lookup::{Scope, Services};
use super::time::to_duration;
use super::{format, mesh};

/// The service and how callers talk to it.
pub(super) fn check(
    scope: &mut Scope<'_>,
    services: &Services<'_>,
    spec: &TrafficPolicySpec,
) -> Option<(ServiceName, mesh::TrafficPolicy)> {
    let balancer = match &spec.load_balancer {
        Some(balancer) => check_balancer(scope, balancer),
        None => mesh::Balancer::default(),
    };
    let outlier = spec.outlier_detection.as_ref().map(|it| check_outlier(scope, it));
    let health_check = spec.health_check.as_ref().and_then(|it| check_health(scope, it));
    let retry_budget = spec.retry_budget.as_ref().map(|it| mesh::RetryBudget {
        percent: whole_percent(scope, &it.percent, 20, "spec.retryBudget.percent"),
        min_per_second: it.min_per_second.unwrap_or(3),
    });
    if let Some(tls) = &spec.tls {
        scope.no_wildcard(&tls.sni, "spec.tls.sni");
        if tls.mode() == TlsMode::Mesh && !tls.ca_file.is_empty() {
            scope.fault(
                "spec.tls.caFile",
                "the mesh has authorities of its own",
                "remove it, or use the mode Simple",
            );
        }
    }
    let service = scope.target(services, spec.target_ref.as_ref(), "spec.targetRef")?;
    let protocol = services.spec(&service).map(ServiceSpec::protocol);
    if !matches!(protocol, Some(Protocol::Http2 | Protocol::Grpc))
        && health_check.as_ref().is_some_and(|it| matches!(it.probe, mesh::Probe::Grpc(_)))
    {
        scope.fault(
            "spec.healthCheck.grpc",
            format!("Service {service} does not speak HTTP/2, which gRPC needs"),
            "probe by http or tcp, or give the service the protocol grpc or http2",
        );
    }
    let pool = spec.connection_pool.unwrap_or_default();
    let policy = mesh::TrafficPolicy {
        balancer,
        connect_timeout: pool.connect_timeout.map(to_duration),
        max_connections: pool.max_connections,
        max_pending_requests: pool.max_pending_requests,
        max_requests: pool.max_requests,
        idle_timeout: pool.idle_timeout.map(to_duration),
        max_age: pool.max_age.map(to_duration),
        outlier,
        health_check,
        retry_budget,
        tls: spec.tls.as_ref().and_then(check_tls),
    };
    Some((service, policy))
}

/// Only that of the mesh takes effect today.
fn check_tls(tls: &UpstreamTls) -> Option<mesh::UpstreamTls> {
    let server_name = (!tls.sni.is_empty()).then(|| tls.sni.to_ascii_lowercase());
    (tls.mode() == TlsMode::Mesh).then_some(mesh::UpstreamTls::Mesh { server_name })
}

fn check_balancer(scope: &mut Scope<'_>, balancer: &LoadBalancer) -> mesh::Balancer {
    let hashes = matches!(balancer.algorithm(), Algorithm::RingHash | Algorithm::Maglev);
    let by = check_hash_by(scope, balancer.hash_by.as_ref(), hashes);
    if balancer.max_load_percent.is_some() && !hashes {
        scope.fault(
            "spec.loadBalancer.maxLoadPercent",
            "only RingHash and Maglev bound the load of one endpoint",
            "remove it, or use RingHash or Maglev",
        );
    }
    let slow_start = balancer.slow_start.map(to_duration).unwrap_or_default();
    if hashes && !slow_start.is_zero() {
        scope.fault(
            "spec.loadBalancer.slowStart",
            "RingHash and Maglev give a new endpoint its keys at once",
            "remove slowStart, or use another algorithm",
        );
    }
    let hashing = mesh::Hashing { by, max_load_percent: balancer.max_load_percent };
    let algorithm = match balancer.algorithm() {
        Algorithm::Unspecified | Algorithm::RoundRobin => mesh::Algorithm::RoundRobin,
        Algorithm::LeastRequest => mesh::Algorithm::LeastRequest,
        Algorithm::PeakEwma => mesh::Algorithm::PeakEwma,
        Algorithm::Random => mesh::Algorithm::Random,
        Algorithm::RingHash => mesh::Algorithm::RingHash(hashing),
        Algorithm::Maglev => mesh::Algorithm::Maglev(hashing),
    };
    let panic = &balancer.panic_threshold;
    let panic_percent = (!panic.is_empty())
        .then(|| whole_percent(scope, panic, 50, "spec.loadBalancer.panicThreshold"));
    let localities = check_localities(scope, balancer.localities.as_ref(), hashes);
    mesh::Balancer { algorithm, slow_start, panic_percent, localities }
}

fn check_localities(
    scope: &mut Scope<'_>,
    localities: Option<&Localities>,
    hashes: bool,
) -> mesh::Localities {
    const MIN_ENDPOINTS: u32 = 6;
    let Some(localities) = localities else { return mesh::Localities::Ignored };
    let path = "spec.loadBalancer.localities";
    match localities.mode() {
        Mode::Weighted => {
            for (field, told) in [
                ("minEndpoints", localities.min_endpoints),
                ("allLocalFrom", localities.all_local_from),
            ] {
                if told.is_some() {
                    scope.fault(
                        &format!("{path}.{field}"),
                        "weighted localities take their weights, however many endpoints they have",
                        "remove it, or use the mode ZoneAware",
                    );
                }
            }
            mesh::Localities::Weighted
        }
        Mode::Unspecified | Mode::ZoneAware => {
            if hashes {
                scope.fault(
                    &format!("{path}.mode"),
                    "RingHash and Maglev send a key to one endpoint, wherever its callers are",
                    "use the mode Weighted, or another algorithm",
                );
            }
            mesh::Localities::ZoneAware {
                min_endpoints: localities.min_endpoints.unwrap_or(MIN_ENDPOINTS),
                all_local_from: localities.all_local_from,
            }
        }
    }
}

/// What is hashed. Random where nothing is, or nothing good.
fn check_hash_by(scope: &mut Scope<'_>, by: Option<&SplitBy>, hashes: bool) -> mesh::SplitBy {
    let path = "spec.loadBalancer.hashBy";
    match by.map(|by| &by.key) {
        Some(_) if !hashes => scope.fault(
            path,
            "this algorithm hashes nothing",
            "remove hashBy, or use RingHash or Maglev",
        ),
        Some(Some(Key::Header(name))) => return mesh::SplitBy::Header(name.to_ascii_lowercase()),
        Some(Some(Key::Cookie(name))) => return mesh::SplitBy::Cookie(name.clone()),
        Some(Some(Key::Random(_))) => {
            scope.fault(path, "a random hash picks at random", "use the algorithm Random");
        }
        Some(Some(Key::Session(_))) => scope.fault(
            path,
            "a session is no key of endpoints",
            "name the header or cookie that holds the session's id",
        ),
        Some(None) | None if hashes => scope.fault(
            path,
            "RingHash and Maglev need something to hash",
            "such as hashBy: {header: x-user-id}",
        ),
        Some(None) | None => {}
    }
    mesh::SplitBy::Random
}

fn check_outlier(scope: &mut Scope<'_>, outlier: &OutlierDetection) -> mesh::Outlier {
    let time = |time: Option<prost_types::Duration>, default: u64| {
        time.map_or(Duration::from_secs(default), to_duration)
    };
    let base_ejection_time = time(outlier.base_ejection_time, 30);
    let max_ejection_time = match outlier.max_ejection_time {
        Some(max) => to_duration(max),
        // A first ejection longer than the default needs no second field.
        None => base_ejection_time.max(Duration::from_mins(5)),
    };
    if base_ejection_time > max_ejection_time {
        scope.fault(
            "spec.outlierDetection.baseEjectionTime",
            "the first ejection is longer than the longest",
            "baseEjectionTime is at most maxEjectionTime",
        );
    }
    let max_ejected = &outlier.max_ejected;
    mesh::Outlier {
        consecutive_errors: outlier.consecutive_errors.unwrap_or(5),
        consecutive_gateway_errors: outlier.consecutive_gateway_errors.unwrap_or(0),
        interval: time(outlier.interval, 10),
        base_ejection_time,
        max_ejection_time,
        max_ejected_percent: whole_percent(
            scope,
            max_ejected,
            10,
            "spec.outlierDetection.maxEjected",
        ),
        success_rate: outlier.success_rate.as_ref().map(|rate| mesh::SuccessRate {
            min_endpoints: rate.min_endpoints.unwrap_or(5),
            min_requests: rate.min_requests.unwrap_or(100),
            stdev_factor_thousandths: (rate.stdev_factor.unwrap_or(1.9) * 1000.0).round() as u32,
        }),
    }
}

fn check_health(scope: &mut Scope<'_>, health: &HealthCheck) -> Option<mesh::HealthCheck> {
    let interval = health.interval.map_or(Duration::from_secs(5), to_duration);
    let timeout = match health.timeout {
        Some(timeout) => to_duration(timeout),
        // One that is written shorter than the default needs no second field.
        None => interval.min(Duration::from_secs(1)),
    };
    if timeout > interval {
        scope.fault(
            "spec.healthCheck.timeout",
            "a probe would run longer than the time to the next",
            "timeout is at most interval",
        );
    }
    let probe = match &health.probe {
        Some(Asked::Http(http)) => mesh::Probe::Http(http.path.clone()),
        Some(Asked::Grpc(grpc)) => mesh::Probe::Grpc(grpc.service.clone()),
        Some(Asked::Tcp(_)) => mesh::Probe::Tcp,
        // That nothing is said was told when it was read.
        None => return None,
    };
    Some(mesh::HealthCheck {
        probe,
        interval,
        timeout,
        unhealthy_threshold: health.unhealthy_threshold.unwrap_or(3),
        healthy_threshold: health.healthy_threshold.unwrap_or(1),
    })
}

/// A percentage that clients take only as a whole number.
fn whole_percent(scope: &mut Scope<'_>, text: &str, default: u8, path: &str) -> u8 {
    if text.is_empty() {
        return default;
    }
    // A bad one was told when it was read.
    let hundredths = format::percent(text).unwrap_or_default();
    if !hundredths.is_multiple_of(100) {
        scope.fault(path, format!("{text} is no whole percentage"), "such as 20%");
    }
    (hundredths / 100) as u8
}
