//! What a `TrafficPolicy` says once it is checked.

use std::time::Duration;

use segue_shared::ids::{Revision, ServiceName};

use super::super::mesh::{
    Algorithm, Balancer, Hashing, HealthCheck, Localities, Outlier, Probe, RetryBudget, SplitBy,
    SuccessRate, TrafficPolicy,
};
use super::super::{Faults, check};
use super::{CHAT, parsed};

fn checked(spec: &str) -> Result<TrafficPolicy, Faults> {
    let header = "kind: TrafficPolicy\nmetadata: {name: chat}\nspec:\n  targetRef: {name: chat}\n";
    let mesh = check(Revision(7), &parsed(&format!("{CHAT}---\n{header}  {spec}\n")))?;
    Ok((*mesh.traffic[&ServiceName::new("default", "chat")]).clone())
}

fn faults(spec: &str) -> Vec<String> {
    let faults = checked(spec).unwrap_err();
    faults.0.into_iter().map(|fault| fault.field_path).collect()
}

#[test]
fn what_is_not_written_has_its_default() {
    assert_eq!(checked("connectionPool: {}").unwrap(), TrafficPolicy::default());
    let secs = Duration::from_secs;
    let ejects = checked("outlierDetection: {}").unwrap().outlier.unwrap();
    let expected = Outlier {
        consecutive_errors: 5,
        consecutive_gateway_errors: 0,
        interval: secs(10),
        base_ejection_time: secs(30),
        max_ejection_time: secs(300),
        max_ejected_percent: 10,
        success_rate: None,
    };
    assert_eq!(ejects, expected);
    let rates = checked("outlierDetection: {successRate: {}}").unwrap().outlier.unwrap();
    let usual = SuccessRate { min_endpoints: 5, min_requests: 100, stdev_factor_thousandths: 1900 };
    assert_eq!(rates.success_rate, Some(usual));
    let expected = HealthCheck {
        probe: Probe::Tcp,
        interval: secs(5),
        timeout: secs(1),
        unhealthy_threshold: 3,
        healthy_threshold: 1,
    };
    assert_eq!(checked("healthCheck: {tcp: {}}").unwrap().health_check, Some(expected));
    let often = checked("healthCheck: {tcp: {}, interval: 200ms}").unwrap().health_check.unwrap();
    assert_eq!(often.timeout, Duration::from_millis(200));
    let budget = checked("retryBudget: {}").unwrap().retry_budget;
    assert_eq!(budget, Some(RetryBudget { percent: 20, min_per_second: 3 }));
}

#[test]
fn balancers_say_what_they_need() {
    let of = |spec: &str| checked(&format!("loadBalancer: {{{spec}}}")).unwrap().balancer;
    let hashing = Hashing { by: SplitBy::Header("x-user".into()), max_load_percent: Some(150) };
    assert_eq!(
        of("algorithm: Maglev, hashBy: {header: X-User}, maxLoadPercent: 150").algorithm,
        Algorithm::Maglev(hashing)
    );
    let slow = of("algorithm: LeastRequest, slowStart: 30s, panicThreshold: 20%");
    let expected = Balancer {
        algorithm: Algorithm::LeastRequest,
        slow_start: Duration::from_secs(30),
        panic_percent: Some(20),
        localities: Localities::Ignored,
    };
    assert_eq!(slow, expected);
    for (spec, field) in [
        ("algorithm: RingHash", "hashBy"),
        ("algorithm: RingHash, hashBy: {session: {}}", "hashBy"),
        ("algorithm: RingHash, hashBy: {random: {}}", "hashBy"),
        ("hashBy: {header: x}", "hashBy"),
        ("algorithm: Random, maxLoadPercent: 120", "maxLoadPercent"),
        ("algorithm: Maglev, hashBy: {cookie: c}, slowStart: 1s", "slowStart"),
        ("panicThreshold: 0.5%", "panicThreshold"),
    ] {
        let found = faults(&format!("loadBalancer: {{{spec}}}"));
        assert_eq!(found, [format!("spec.loadBalancer.{field}")], "{spec}");
    }
}

#[test]
fn localities_say_how_far_requests_go() {
    let of =
        |spec: &str| checked(&format!("loadBalancer: {{{spec}}}")).unwrap().balancer.localities;
    let zone_aware =
        |min_endpoints, all_local_from| Localities::ZoneAware { min_endpoints, all_local_from };
    assert_eq!(of("localities: {}"), zone_aware(6, None));
    assert_eq!(
        of("localities: {mode: ZoneAware, minEndpoints: 3, allLocalFrom: 2}"),
        zone_aware(3, Some(2))
    );
    let hashed = "algorithm: Maglev, hashBy: {header: x}";
    assert_eq!(of(&format!("{hashed}, localities: {{mode: Weighted}}")), Localities::Weighted);
    for (spec, field) in [
        (&*format!("{hashed}, localities: {{mode: ZoneAware}}"), "mode"),
        ("localities: {mode: Weighted, minEndpoints: 3}", "minEndpoints"),
        ("localities: {mode: Weighted, allLocalFrom: 3}", "allLocalFrom"),
    ] {
        let found = faults(&format!("loadBalancer: {{{spec}}}"));
        assert_eq!(found, [format!("spec.loadBalancer.localities.{field}")], "{spec}");
    }
}

#[test]
fn times_and_shares_must_make_sense() {
    for (spec, field) in [
        ("outlierDetection: {baseEjectionTime: 2m, maxEjectionTime: 1m}", "baseEjectionTime"),
        ("outlierDetection: {maxEjected: 12.5%}", "maxEjected"),
    ] {
        assert_eq!(faults(spec), [format!("spec.outlierDetection.{field}")]);
    }
    let long = checked("outlierDetection: {baseEjectionTime: 10m}").unwrap().outlier.unwrap();
    assert_eq!(long.max_ejection_time, Duration::from_mins(10));
    assert_eq!(faults("healthCheck: {tcp: {}, timeout: 6s}"), ["spec.healthCheck.timeout"]);
    // The service speaks HTTP/1.1, over which no server of gRPC answers.
    assert_eq!(faults("healthCheck: {grpc: {}}"), ["spec.healthCheck.grpc"]);
    assert_eq!(faults("retryBudget: {percent: 0.1%}"), ["spec.retryBudget.percent"]);
}
