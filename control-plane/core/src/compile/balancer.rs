//! The load balancer of a cluster, as a list of policies of which a client takes the first that it
//! knows.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use envoy_types::pb::envoy::config::cluster::v3::load_balancing_policy::Policy;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::{
    ConsistentHashingLbConfig, SlowStartConfig,
};
use envoy_types::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use envoy_types::pb::envoy::extensions::load_balancing_policies::maglev::v3::Maglev;
use envoy_types::pb::envoy::extensions::load_balancing_policies::random::v3::Random;
use envoy_types::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::RingHash;
use envoy_types::pb::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use envoy_types::pb::google::protobuf::{Any, UInt32Value};
use segue_proto::extension::v1::PeakEwma;
use segue_shared::extension::{pack, pack_as, type_url};

use super::extension::duration;
use super::{NodeKind, localities, split};
use crate::config::mesh::{Algorithm, Balancer, Hashing, Localities};

/// `None` where endpoints take turns, which every client does unasked.
pub(super) fn compile(balancer: &Balancer, kind: NodeKind) -> Option<LoadBalancingPolicy> {
    // What force there is to stay has a field only in the policy itself.
    let forced = localities::is_forced(balancer.localities) && kind != NodeKind::Grpc;
    let plain = balancer.slow_start.is_zero() && !forced;
    if balancer.algorithm == Algorithm::RoundRobin && plain {
        return None;
    }
    let of = |algorithm: &Algorithm| typed(algorithm, balancer.slow_start, balancer.localities);
    let policies = match (&balancer.algorithm, kind) {
        // Clients of gRPC hash nothing but what their routes say, and start nobody slowly.
        (Algorithm::LeastRequest | Algorithm::PeakEwma, NodeKind::Grpc) => {
            vec![
                typed(&Algorithm::LeastRequest, Duration::ZERO, Localities::Ignored),
                of(&Algorithm::RoundRobin),
            ]
        }
        (_, NodeKind::Grpc) => return None,
        (Algorithm::PeakEwma, NodeKind::Sidecar) => {
            vec![of(&Algorithm::PeakEwma), of(&Algorithm::LeastRequest)]
        }
        (Algorithm::PeakEwma, NodeKind::Envoy { .. }) => vec![of(&Algorithm::LeastRequest)],
        (algorithm, _) => vec![of(algorithm)],
    };
    let policy = |(name, config): (&str, Any)| Policy {
        typed_extension_config: Some(TypedExtensionConfig {
            name: name.to_owned(),
            typed_config: Some(config),
        }),
    };
    Some(LoadBalancingPolicy { policies: policies.into_iter().map(policy).collect() })
}

fn typed(
    algorithm: &Algorithm,
    slow_start: Duration,
    localities: Localities,
) -> (&'static str, Any) {
    let local = localities::of_policy(localities);
    let weighted = localities::weighted(localities);
    let slow = (!slow_start.is_zero()).then(|| SlowStartConfig {
        slow_start_window: Some(duration(slow_start)),
        ..SlowStartConfig::default()
    });
    match algorithm {
        Algorithm::RoundRobin => {
            let config = RoundRobin { slow_start_config: slow, locality_lb_config: local };
            ("envoy.load_balancing_policies.round_robin", pack(&config))
        }
        Algorithm::LeastRequest => {
            let config = LeastRequest {
                slow_start_config: slow,
                locality_lb_config: local,
                ..LeastRequest::default()
            };
            ("envoy.load_balancing_policies.least_request", pack(&config))
        }
        Algorithm::PeakEwma => {
            let slow_start_millis = u64::try_from(slow_start.as_millis()).unwrap_or(u64::MAX);
            let url = type_url("segue.extension.v1.PeakEwma");
            let all_local_from = match localities {
                Localities::ZoneAware { all_local_from, .. } => all_local_from.unwrap_or(0),
                Localities::Ignored | Localities::Weighted => 0,
            };
            let config = PeakEwma { slow_start_millis, all_local_from };
            ("segue.peak_ewma", pack_as(&url, &config))
        }
        Algorithm::Random => {
            let config = Random { locality_lb_config: local };
            ("envoy.load_balancing_policies.random", pack(&config))
        }
        Algorithm::RingHash(of) => {
            let hashing = Some(hashing(of));
            let config = RingHash {
                consistent_hashing_lb_config: hashing,
                locality_weighted_lb_config: weighted,
                ..RingHash::default()
            };
            ("envoy.load_balancing_policies.ring_hash", pack(&config))
        }
        Algorithm::Maglev(of) => {
            let hashing = Some(hashing(of));
            let config = Maglev {
                consistent_hashing_lb_config: hashing,
                locality_weighted_lb_config: weighted,
                ..Maglev::default()
            };
            ("envoy.load_balancing_policies.maglev", pack(&config))
        }
    }
}

fn hashing(of: &Hashing) -> ConsistentHashingLbConfig {
    ConsistentHashingLbConfig {
        hash_balance_factor: of.max_load_percent.map(|value| UInt32Value { value }),
        // Of the cluster, so that a route may split by another key.
        hash_policy: split::hash_policy(&of.by),
        ..ConsistentHashingLbConfig::default()
    }
}
