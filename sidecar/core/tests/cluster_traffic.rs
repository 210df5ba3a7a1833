//! How requests to a cluster are spread, and how its endpoints are judged: Envoy's fields compiled,
//! or refused by path.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail so")]
#![allow(clippy::unnecessary_wraps, reason = "fields of Envoy's messages are options")]

mod sample;

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds as Breaker;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget as PbBudget;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{CommonLbConfig, LbPolicy};
use envoy_types::pb::envoy::config::cluster::v3::load_balancing_policy::Policy;
use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, LoadBalancingPolicy, OutlierDetection,
};
use envoy_types::pb::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck, TcpHealthCheck,
};
use envoy_types::pb::envoy::config::core::v3::{HealthCheck, TypedExtensionConfig};
use envoy_types::pb::envoy::config::route::v3::route_action::HashPolicy;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::{
    Header, PolicySpecifier,
};
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::{
    ConsistentHashingLbConfig, SlowStartConfig,
};
use envoy_types::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use envoy_types::pb::envoy::extensions::load_balancing_policies::maglev::v3::Maglev;
use envoy_types::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::RingHash;
use envoy_types::pb::envoy::r#type::v3::{Int64Range, Percent};
use envoy_types::pb::google::protobuf::{
    Any, BoolValue, Duration as PbDuration, UInt32Value, UInt64Value,
};
use prost::Message;
use segue_proto::extension::v1::PeakEwma;
use segue_shared::extension::{pack, pack_as, type_url};
use segue_shared::xds_names::type_urls;
use segue_sidecar_core::compile::{Compiled, compile};
use segue_sidecar_core::retry_budget::RetryBudget;
use segue_sidecar_core::snapshot::{Algorithm, ProbeKind, SplitKey, TableKind, Traffic};

use sample::cluster;

fn compiled(change: impl Fn(&mut Cluster)) -> Result<Traffic, String> {
    let mut message = cluster("a", false);
    change(&mut message);
    match compile(type_urls::CLUSTER, None, &message.encode_to_vec()) {
        Ok(Compiled::Cluster(spec)) => Ok((*spec.traffic).clone()),
        Ok(other) => panic!("{other:?}"),
        Err(reject) => Err(reject.field_path),
    }
}

fn list(configs: Vec<Any>) -> Option<LoadBalancingPolicy> {
    let policy = |config| Policy {
        typed_extension_config: Some(TypedExtensionConfig {
            name: "x".to_owned(),
            typed_config: Some(config),
        }),
    };
    Some(LoadBalancingPolicy { policies: configs.into_iter().map(policy).collect() })
}

fn unknown() -> Any {
    Any { type_url: "type.googleapis.com/x.Unknown".to_owned(), value: vec![0xff] }
}

fn seconds(seconds: i64) -> Option<PbDuration> {
    Some(PbDuration { seconds, nanos: 0 })
}

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

#[test]
fn the_first_known_policy_of_the_list_decides() {
    let ewma = pack_as(
        &type_url("segue.extension.v1.PeakEwma"),
        &PeakEwma { slow_start_millis: 1500, all_local_from: 0 },
    );
    let least = pack(&LeastRequest {
        choice_count: number(3),
        slow_start_config: Some(SlowStartConfig {
            slow_start_window: seconds(30),
            ..Default::default()
        }),
        ..Default::default()
    });
    let of = |configs: &[&Any]| {
        let configs: Vec<Any> = configs.iter().map(|&it| it.clone()).collect();
        compiled(|it| it.load_balancing_policy = list(configs.clone()))
            .map(|it| (it.algorithm, it.slow_start))
    };
    let by_ewma = (Algorithm::PeakEwma, Duration::from_millis(1500));
    let by_least = (Algorithm::LeastRequest { choices: 3 }, Duration::from_secs(30));
    assert_eq!(of(&[&ewma, &least]), Ok(by_ewma));
    assert_eq!(of(&[&unknown(), &least, &ewma]), Ok(by_least));
    assert_eq!(of(&[&unknown()]), Err("load_balancing_policy.policies".to_owned()));
}

#[test]
fn hashing_says_its_key_and_bound() {
    let hashing = |factor| ConsistentHashingLbConfig {
        hash_balance_factor: number(factor),
        hash_policy: vec![HashPolicy {
            policy_specifier: Some(PolicySpecifier::Header(Header {
                header_name: "X-User-Id".to_owned(),
                ..Default::default()
            })),
            ..Default::default()
        }],
        ..Default::default()
    };
    let ring = RingHash {
        minimum_ring_size: Some(UInt64Value { value: 2048 }),
        consistent_hashing_lb_config: Some(hashing(150)),
        ..Default::default()
    };
    let of = |config: Any| compiled(|it| it.load_balancing_policy = list(vec![config.clone()]));
    let Algorithm::Hash(by_ring) = of(pack(&ring)).unwrap().algorithm else { panic!() };
    assert_eq!(by_ring.table, TableKind::Ring { least: 2048, most: 65_536 });
    assert_eq!(by_ring.key, Some(SplitKey::Header("x-user-id".parse().unwrap())));
    assert_eq!(by_ring.max_load_percent, Some(150));
    let at = "load_balancing_policy.policies[0].typed_extension_config.typed_config";
    let low = RingHash { consistent_hashing_lb_config: Some(hashing(99)), ..Default::default() };
    let expected = format!("{at}.consistent_hashing_lb_config.hash_balance_factor");
    assert_eq!(of(pack(&low)).unwrap_err(), expected);
    for (size, good) in [(65_537, true), (65_536, false), (1, false), (5_000_011, true)] {
        let config = Maglev { table_size: Some(UInt64Value { value: size }), ..Default::default() };
        let compiled = of(pack(&config));
        assert_eq!(compiled.is_ok(), good, "{size}");
        assert!(good || compiled == Err(format!("{at}.table_size")));
    }
}

#[test]
fn the_old_field_names_algorithms_too() {
    let of = |policy: LbPolicy| compiled(|it| it.lb_policy = policy as i32).map(|it| it.algorithm);
    assert_eq!(of(LbPolicy::RoundRobin), Ok(Algorithm::RoundRobin));
    assert_eq!(of(LbPolicy::LeastRequest), Ok(Algorithm::LeastRequest { choices: 2 }));
    assert_eq!(of(LbPolicy::Random), Ok(Algorithm::Random));
    assert!(matches!(of(LbPolicy::RingHash), Ok(Algorithm::Hash(it)) if it.key.is_none()));
    assert!(matches!(of(LbPolicy::Maglev), Ok(Algorithm::Hash(_))));
    assert_eq!(of(LbPolicy::ClusterProvided), Err("lb_policy".to_owned()));
    let panic = |value| {
        compiled(|it| {
            it.common_lb_config = Some(CommonLbConfig {
                healthy_panic_threshold: Some(Percent { value }),
                ..Default::default()
            });
        })
        .map(|it| it.panic_percent)
    };
    assert_eq!(panic(0.0), Ok(0));
    assert_eq!(panic(101.0), Err("common_lb_config.healthy_panic_threshold.value".to_owned()));
}

#[test]
fn outliers_are_judged_as_envoy_does() {
    let of = |outlier: OutlierDetection| {
        compiled(|it| it.outlier_detection = Some(outlier.clone())).map(|it| it.outlier.unwrap())
    };
    let usual = of(OutlierDetection::default()).unwrap();
    assert_eq!((usual.consecutive_errors, usual.consecutive_gateway_errors), (5, 0));
    assert!(usual.success_rate.is_some() && !usual.always_one);
    let own = of(OutlierDetection {
        consecutive_5xx: number(3),
        enforcing_consecutive_5xx: number(0),
        consecutive_gateway_failure: number(2),
        enforcing_consecutive_gateway_failure: number(100),
        enforcing_success_rate: number(0),
        base_ejection_time: seconds(400),
        always_eject_one_host: Some(BoolValue { value: true }),
        ..Default::default()
    })
    .unwrap();
    assert_eq!((own.consecutive_errors, own.consecutive_gateway_errors), (0, 2));
    assert!(own.success_rate.is_none() && own.always_one);
    assert_eq!(own.max_ejection_time, Duration::from_secs(400));
    let bad = |change: fn(&mut OutlierDetection)| {
        let mut message = OutlierDetection::default();
        change(&mut message);
        of(message).unwrap_err()
    };
    assert_eq!(bad(|it| it.interval = seconds(0)), "outlier_detection.interval");
    assert_eq!(
        bad(|it| it.max_ejection_percent = number(101)),
        "outlier_detection.max_ejection_percent"
    );
}

fn check(checker: HealthChecker) -> HealthCheck {
    HealthCheck {
        timeout: seconds(1),
        interval: seconds(5),
        healthy_threshold: number(1),
        unhealthy_threshold: number(3),
        health_checker: Some(checker),
        ..Default::default()
    }
}

#[test]
fn probes_ask_what_the_health_check_says() {
    let of = |message: HealthCheck| {
        compiled(|it| it.health_checks = vec![message.clone()]).map(|it| it.probe.unwrap())
    };
    let http = HttpHealthCheck { path: "/live?deep".to_owned(), ..Default::default() };
    let probe = of(check(HealthChecker::HttpHealthCheck(http.clone()))).unwrap();
    assert_eq!((probe.interval, probe.thresholds.unhealthy), (Duration::from_secs(5), 3));
    let ProbeKind::Http { path, http2: false, expected, host: None } = probe.kind else { panic!() };
    assert_eq!((path.as_str(), &*expected), ("/live?deep", std::slice::from_ref(&(200..201))));
    let wide = HttpHealthCheck {
        expected_statuses: vec![Int64Range { start: 200, end: 300 }],
        ..http.clone()
    };
    let probe = of(check(HealthChecker::HttpHealthCheck(wide))).unwrap();
    assert!(matches!(probe.kind, ProbeKind::Http { expected, .. } if expected[0] == (200..300)));
    let grpc = GrpcHealthCheck { service_name: "a.B".to_owned(), ..Default::default() };
    let probe = of(check(HealthChecker::GrpcHealthCheck(grpc))).unwrap();
    assert!(matches!(probe.kind, ProbeKind::Grpc { service, .. } if &*service == "a.B"));
    let tcp = HealthChecker::TcpHealthCheck(TcpHealthCheck::default());
    assert_eq!(of(check(tcp.clone())).unwrap().kind, ProbeKind::Tcp);
    let bad = [
        (HealthCheck::default(), "http_health_check"),
        (HealthCheck { timeout: None, ..check(tcp.clone()) }, "timeout"),
        (HealthCheck { healthy_threshold: number(0), ..check(tcp) }, "healthy_threshold"),
        (
            check(HealthChecker::HttpHealthCheck(HttpHealthCheck {
                path: "live".to_owned(),
                ..Default::default()
            })),
            "http_health_check.path",
        ),
        (
            check(HealthChecker::HttpHealthCheck(HttpHealthCheck {
                host: "a b".to_owned(),
                ..http
            })),
            "http_health_check.host",
        ),
    ];
    for (message, field) in bad {
        assert_eq!(of(message).unwrap_err(), format!("health_checks[0].{field}"));
    }
}

#[test]
fn breakers_say_how_much_may_be_repeated() {
    let of = |breaker: Breaker| {
        let thresholds = vec![breaker];
        compiled(|it| {
            it.circuit_breakers =
                Some(CircuitBreakers { thresholds: thresholds.clone(), ..Default::default() });
        })
    };
    let plain = of(Breaker { max_retries: number(3), ..Default::default() }).unwrap();
    assert_eq!((plain.max_retries, plain.retry_budget), (Some(3), RetryBudget::default()));
    let budget = |value| Breaker {
        max_retries: number(3),
        retry_budget: Some(PbBudget {
            budget_percent: Some(Percent { value }),
            min_retry_concurrency: number(7),
            ..Default::default()
        }),
        ..Default::default()
    };
    let budgeted = of(budget(33.0)).unwrap();
    assert_eq!(budgeted.max_retries, None);
    assert_eq!(budgeted.retry_budget, RetryBudget { percent: 33, min_per_second: 7 });
    let field = "circuit_breakers.thresholds[0].retry_budget.budget_percent.value";
    assert_eq!(of(budget(-1.0)).unwrap_err(), field);
}
