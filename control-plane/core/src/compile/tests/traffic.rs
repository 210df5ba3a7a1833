//! Traffic policies as clusters say them.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use envoy_types::pb::envoy::extensions::load_balancing_policies::maglev::v3::Maglev;
use prost::Message;
use segue_proto::extension::v1::PeakEwma;
use segue_shared::xds_names::type_urls::CLUSTER;

use super::mesh::chat;
use super::readable::{decode, of_type};
use super::{ENVOY, compiled};
use crate::compile::NodeKind;
use crate::config::mesh::{
    Algorithm, Balancer, Hashing, HealthCheck, MeshConfig, Outlier, Probe, RetryBudget, SplitBy,
    SuccessRate, TrafficPolicy,
};

fn with(policy: TrafficPolicy) -> MeshConfig {
    let mut config = chat();
    config.traffic.insert("chat".parse().unwrap(), policy.into());
    config
}

fn cluster(kind: NodeKind, policy: TrafficPolicy) -> Cluster {
    let snapshot = compiled(kind, &with(policy));
    let resource = &snapshot.of_type(CLUSTER).unwrap()["default/chat/v1"];
    Cluster::decode(resource.value()).unwrap()
}

fn balanced(algorithm: Algorithm, slow_start: u64) -> TrafficPolicy {
    let slow_start = Duration::from_secs(slow_start);
    let balancer = Balancer { algorithm, slow_start, ..Balancer::default() };
    TrafficPolicy { balancer, ..TrafficPolicy::default() }
}

type Names = &'static [&'static str];

/// The types of the policies that a client chooses from, without their packages.
fn policies(cluster: &Cluster) -> Vec<String> {
    let policies = cluster.load_balancing_policy.iter().flat_map(|list| &list.policies);
    let configs = policies.map(|policy| policy.typed_extension_config.as_ref().unwrap());
    configs
        .map(|config| {
            config.typed_config.as_ref().unwrap().type_url.rsplit_once('.').unwrap().1.to_owned()
        })
        .collect()
}

#[test]
fn each_client_finds_a_policy_that_it_knows() {
    let hashing = Hashing { by: SplitBy::Cookie("sid".to_owned()), max_load_percent: None };
    let table: [(Algorithm, Names, Names, Names); 6] = [
        (Algorithm::RoundRobin, &[], &[], &[]),
        (
            Algorithm::LeastRequest,
            &["LeastRequest"],
            &["LeastRequest"],
            &["LeastRequest", "RoundRobin"],
        ),
        (
            Algorithm::PeakEwma,
            &["PeakEwma", "LeastRequest"],
            &["LeastRequest"],
            &["LeastRequest", "RoundRobin"],
        ),
        (Algorithm::Random, &["Random"], &["Random"], &[]),
        (Algorithm::RingHash(hashing.clone()), &["RingHash"], &["RingHash"], &[]),
        (Algorithm::Maglev(hashing), &["Maglev"], &["Maglev"], &[]),
    ];
    for (algorithm, sidecar, envoy, grpc) in table {
        for (kind, expected) in
            [(NodeKind::Sidecar, sidecar), (ENVOY, envoy), (NodeKind::Grpc, grpc)]
        {
            let cluster = cluster(kind, balanced(algorithm.clone(), 0));
            assert_eq!(policies(&cluster), expected, "{algorithm:?} for {kind:?}");
        }
    }
    let slow = cluster(ENVOY, balanced(Algorithm::RoundRobin, 5));
    assert_eq!(policies(&slow), ["RoundRobin"]);
}

#[test]
fn policies_say_what_was_declared() {
    let typed = |kind, policy: TrafficPolicy| {
        let list = cluster(kind, policy).load_balancing_policy.unwrap();
        list.policies[0].typed_extension_config.clone().unwrap().typed_config.unwrap()
    };
    let ewma = typed(NodeKind::Sidecar, balanced(Algorithm::PeakEwma, 3));
    assert_eq!(decode::<PeakEwma>(&ewma).slow_start_millis, 3000);
    let least: LeastRequest = decode(&typed(ENVOY, balanced(Algorithm::LeastRequest, 3)));
    assert_eq!(least.slow_start_config.unwrap().slow_start_window.unwrap().seconds, 3);
    let by = SplitBy::Header("X-User".to_owned());
    let hashing = Hashing { by, max_load_percent: Some(125) };
    let maglev: Maglev = decode(&typed(ENVOY, balanced(Algorithm::Maglev(hashing), 0)));
    let hashing = maglev.consistent_hashing_lb_config.unwrap();
    assert_eq!(hashing.hash_balance_factor.unwrap().value, 125);
    assert!(format!("{:?}", hashing.hash_policy).contains("\"x-user\""));
}

#[test]
fn ejection_probes_and_budget() {
    let policy = TrafficPolicy {
        balancer: Balancer { panic_percent: Some(30), ..Balancer::default() },
        outlier: Some(Outlier {
            consecutive_errors: 3,
            consecutive_gateway_errors: 0,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_mins(5),
            max_ejected_percent: 10,
            success_rate: Some(SuccessRate {
                min_endpoints: 5,
                min_requests: 100,
                stdev_factor_thousandths: 1900,
            }),
        }),
        health_check: Some(HealthCheck {
            probe: Probe::Http("/healthz".to_owned()),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            unhealthy_threshold: 3,
            healthy_threshold: 1,
        }),
        retry_budget: Some(RetryBudget { percent: 25, min_per_second: 10 }),
        ..TrafficPolicy::default()
    };
    insta::assert_snapshot!(of_type(&compiled(ENVOY, &with(policy.clone())), CLUSTER));
    let grpc = cluster(NodeKind::Grpc, policy);
    assert!(grpc.outlier_detection.is_none() && grpc.health_checks.is_empty());
}
