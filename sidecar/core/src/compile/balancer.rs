//! The load balancer of a `Cluster`.
//!
//! | field | taken |
//! |---|---|
//! | `load_balancing_policy` | the first policy of the list that is known (gRFC A52), before `lb_policy` |
//! | `segue.extension.v1.PeakEwma` | yes |
//! | `RoundRobin`, `LeastRequest`, `Random`, and `round_robin_lb_config`, `least_request_lb_config` | `choice_count`, `slow_start_config.slow_start_window`; the rest tunes |
//! | `WrrLocality`, `ClientSideWeightedRoundRobin` | as round robin: their weights come from reports that nobody sends here |
//! | `RingHash`, `ring_hash_lb_config` | sizes, at most 65,536 points; the hash function is ours |
//! | `Maglev`, `maglev_lb_config` | `table_size` |
//! | `consistent_hashing_lb_config` | `hash_policy[0]` by header or cookie, `hash_balance_factor` |
//! | `common_lb_config.healthy_panic_threshold` | yes |
//! | `locality_lb_config`, `locality_weighted_lb_config`, those of `common_lb_config` | see `localities` |
//! | `CLUSTER_PROVIDED` and other policies | refused |

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as PbCluster;
use envoy_types::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{LbConfig, LbPolicy};
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::{
    ConsistentHashingLbConfig, LocalityLbConfig, SlowStartConfig,
};
use envoy_types::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use envoy_types::pb::envoy::extensions::load_balancing_policies::maglev::v3::Maglev;
use envoy_types::pb::envoy::extensions::load_balancing_policies::random::v3::Random;
use envoy_types::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::RingHash;
use envoy_types::pb::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use envoy_types::pb::google::protobuf::{Any, Duration as PbDuration, UInt32Value};
use prost::Message;
use segue_proto::extension::v1::PeakEwma;

use super::field::duration;
use super::{hash_policy, localities};
use crate::reject::Fault;
use crate::snapshot::{Algorithm, Hashing, LocalityRule, TableKind, Traffic};

const LEAST_POINTS: u64 = 1024;
/// A ring of so many points takes a MiB.
const MOST_POINTS: u64 = 65_536;
const MAGLEV_SLOTS: u64 = 65_537;
/// The largest table that Envoy takes.
const MOST_SLOTS: u64 = 5_000_011;
const CHOICES: u32 = 2;
/// More draws than this are a look at all endpoints.
const MOST_CHOICES: u32 = 100;

/// How requests to a cluster are spread.
pub(super) fn spread(message: &PbCluster, traffic: &mut Traffic) -> Result<(), Fault> {
    let chosen = match &message.load_balancing_policy {
        Some(policy) => by_list(policy).map_err(|fault| fault.under("load_balancing_policy"))?,
        None => by_enum(message)?,
    };
    let Chosen { algorithm, slow_start, localities, all_from } = chosen;
    (traffic.algorithm, traffic.slow_start) = (algorithm, slow_start);
    let common = message.common_lb_config.as_ref();
    let commonly = common.map(localities::common).transpose();
    let commonly = commonly.map_err(|fault| fault.under("common_lb_config"))?;
    traffic.localities = localities.or(commonly).unwrap_or_default();
    if let LocalityRule::ZoneAware(rule) = &mut traffic.localities {
        rule.all_from = rule.all_from.or(all_from);
    }
    if let Some(threshold) = common.and_then(|common| common.healthy_panic_threshold.as_ref()) {
        if !(0.0..=100.0).contains(&threshold.value) {
            let field = "common_lb_config.healthy_panic_threshold.value";
            return Err(Fault::at(field, "is no percentage"));
        }
        // Envoy goes by whole percents as well.
        traffic.panic_percent = threshold.value as u8;
    }
    Ok(())
}

/// An algorithm, its slow start, and what it says of localities.
struct Chosen {
    algorithm: Algorithm,
    slow_start: Duration,
    localities: Option<LocalityRule>,
    /// Of a rule that stands elsewhere: endpoints from which on all requests stay where they are.
    all_from: Option<u32>,
}

impl Chosen {
    fn new(algorithm: Algorithm, slow_start: Duration) -> Self {
        Self { algorithm, slow_start, localities: None, all_from: None }
    }

    /// With a rule of its own.
    fn within(self, config: Option<&LocalityLbConfig>) -> Result<Self, Fault> {
        let localities = config.map(localities::of_policy).transpose()?.flatten();
        Ok(Self { localities, ..self })
    }

    fn weighted(self, weighted: bool) -> Self {
        Self { localities: weighted.then_some(LocalityRule::Weighted), ..self }
    }
}

fn by_enum(message: &PbCluster) -> Result<Chosen, Fault> {
    let policy = LbPolicy::try_from(message.lb_policy)
        .map_err(|_| Fault::at("lb_policy", format!("{} is unknown", message.lb_policy)))?;
    let common = message.common_lb_config.as_ref();
    let hashing = common.and_then(|common| common.consistent_hashing_lb_config.as_ref());
    let factor = hashing.and_then(|hashing| hashing.hash_balance_factor.as_ref());
    let hashed = |table| -> Result<Chosen, Fault> {
        let max_load_percent = max_load(factor)
            .map_err(|fault| fault.under("common_lb_config.consistent_hashing_lb_config"))?;
        let hashing = Hashing { table, key: None, max_load_percent };
        Ok(Chosen::new(Algorithm::Hash(hashing), Duration::ZERO))
    };
    match (policy, &message.lb_config) {
        (LbPolicy::RoundRobin, Some(LbConfig::RoundRobinLbConfig(config))) => {
            let window = config.slow_start_config.as_ref();
            let window = window.and_then(|config| config.slow_start_window.as_ref());
            let window = slow_start(window).map_err(|it| it.under("round_robin_lb_config"))?;
            Ok(Chosen::new(Algorithm::RoundRobin, window))
        }
        (LbPolicy::LeastRequest, Some(LbConfig::LeastRequestLbConfig(config))) => {
            let window = config.slow_start_config.as_ref();
            let window = window.and_then(|config| config.slow_start_window.as_ref());
            let window = slow_start(window).map_err(|it| it.under("least_request_lb_config"))?;
            Ok(Chosen::new(least_request(config.choice_count.as_ref()), window))
        }
        (LbPolicy::RoundRobin, _) => Ok(Chosen::new(Algorithm::RoundRobin, Duration::ZERO)),
        (LbPolicy::LeastRequest, _) => Ok(Chosen::new(least_request(None), Duration::ZERO)),
        (LbPolicy::Random, _) => Ok(Chosen::new(Algorithm::Random, Duration::ZERO)),
        (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(config))) => hashed(ring(
            config.minimum_ring_size.as_ref().map(|size| size.value),
            config.maximum_ring_size.as_ref().map(|size| size.value),
        )),
        (LbPolicy::RingHash, _) => hashed(ring(None, None)),
        (LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(config))) => hashed(
            maglev(config.table_size.as_ref().map(|size| size.value))
                .map_err(|fault| fault.under("maglev_lb_config"))?,
        ),
        (LbPolicy::Maglev, _) => hashed(maglev(None)?),
        (other, _) => {
            Err(Fault::at("lb_policy", format!("{} is not supported", other.as_str_name())))
        }
    }
}

fn by_list(policy: &LoadBalancingPolicy) -> Result<Chosen, Fault> {
    let configs = policy.policies.iter().enumerate().filter_map(|(i, policy)| {
        Some((i, policy.typed_extension_config.as_ref()?.typed_config.as_ref()?))
    });
    let mut unknown = Vec::new();
    for (i, any) in configs {
        let known = typed(any).map_err(|fault| {
            fault.under(&format!("policies[{i}].typed_extension_config.typed_config"))
        })?;
        match known {
            Some(chosen) => return Ok(chosen),
            None => unknown.push(any.type_url.rsplit('.').next().unwrap_or_default()),
        }
    }
    Err(Fault::at("policies", format!("none is supported: {}", unknown.join(", "))))
}

/// `None` where the policy is unknown.
fn typed(any: &Any) -> Result<Option<Chosen>, Fault> {
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    let name = name.strip_prefix("envoy.extensions.load_balancing_policies.").unwrap_or(name);
    let window = |config: Option<&SlowStartConfig>| {
        slow_start(config.and_then(|config| config.slow_start_window.as_ref()))
    };
    Ok(Some(match name {
        "segue.extension.v1.PeakEwma" => {
            let config: PeakEwma = decode(any)?;
            let window = Duration::from_millis(config.slow_start_millis);
            let all_from = Some(config.all_local_from).filter(|from| *from > 0);
            Chosen { all_from, ..Chosen::new(Algorithm::PeakEwma, window) }
        }
        "round_robin.v3.RoundRobin" => {
            let config: RoundRobin = decode(any)?;
            Chosen::new(Algorithm::RoundRobin, window(config.slow_start_config.as_ref())?)
                .within(config.locality_lb_config.as_ref())?
        }
        "least_request.v3.LeastRequest" => {
            let config: LeastRequest = decode(any)?;
            let algorithm = least_request(config.choice_count.as_ref());
            Chosen::new(algorithm, window(config.slow_start_config.as_ref())?)
                .within(config.locality_lb_config.as_ref())?
        }
        "random.v3.Random" => {
            let config: Random = decode(any)?;
            Chosen::new(Algorithm::Random, Duration::ZERO)
                .within(config.locality_lb_config.as_ref())?
        }
        "wrr_locality.v3.WrrLocality"
        | "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin" => {
            Chosen::new(Algorithm::RoundRobin, Duration::ZERO)
        }
        "ring_hash.v3.RingHash" => {
            let config: RingHash = decode(any)?;
            let table = ring(
                config.minimum_ring_size.map(|size| size.value),
                config.maximum_ring_size.map(|size| size.value),
            );
            let algorithm = hashed(table, config.consistent_hashing_lb_config.as_ref())?;
            Chosen::new(algorithm, Duration::ZERO)
                .weighted(config.locality_weighted_lb_config.is_some())
        }
        "maglev.v3.Maglev" => {
            let config: Maglev = decode(any)?;
            let table = maglev(config.table_size.map(|size| size.value))?;
            let algorithm = hashed(table, config.consistent_hashing_lb_config.as_ref())?;
            Chosen::new(algorithm, Duration::ZERO)
                .weighted(config.locality_weighted_lb_config.is_some())
        }
        _ => return Ok(None),
    }))
}

fn decode<M: Message + Default>(any: &Any) -> Result<M, Fault> {
    M::decode(any.value.as_slice())
        .map_err(|error| Fault::at("", format!("does not decode: {error}")))
}

fn slow_start(window: Option<&PbDuration>) -> Result<Duration, Fault> {
    window.map_or(Ok(Duration::ZERO), |window| {
        duration("slow_start_config.slow_start_window", window)
    })
}

fn least_request(choices: Option<&UInt32Value>) -> Algorithm {
    let choices = choices.map_or(CHOICES, |choices| choices.value.clamp(2, MOST_CHOICES));
    Algorithm::LeastRequest { choices: choices as u8 }
}

fn ring(least: Option<u64>, most: Option<u64>) -> TableKind {
    let most = most.unwrap_or(MOST_POINTS).clamp(1, MOST_POINTS);
    let least = least.unwrap_or(LEAST_POINTS).clamp(1, most);
    TableKind::Ring { least: least as u32, most: most as u32 }
}

fn maglev(size: Option<u64>) -> Result<TableKind, Fault> {
    let size = size.unwrap_or(MAGLEV_SLOTS);
    if size > MOST_SLOTS || !is_prime(size) {
        return Err(Fault::at("table_size", format!("is no prime number up to {MOST_SLOTS}")));
    }
    Ok(TableKind::Maglev { size: size as u32 })
}

fn is_prime(number: u64) -> bool {
    let divides = |divisor: u64| number.is_multiple_of(divisor);
    number > 1 && !(2..=number.isqrt()).any(divides)
}

fn hashed(
    table: TableKind,
    config: Option<&ConsistentHashingLbConfig>,
) -> Result<Algorithm, Fault> {
    let under = |fault: Fault| fault.under("consistent_hashing_lb_config");
    let policies = config.map_or(&[][..], |config| &config.hash_policy);
    let key = match policies {
        [] => None,
        policies => Some(hash_policy::key(policies).map_err(under)?),
    };
    let factor = config.and_then(|config| config.hash_balance_factor.as_ref());
    let max_load_percent = max_load(factor).map_err(under)?;
    Ok(Algorithm::Hash(Hashing { table, key, max_load_percent }))
}

fn max_load(factor: Option<&UInt32Value>) -> Result<Option<u32>, Fault> {
    match factor.map(|factor| factor.value) {
        Some(low) if low < 100 => Err(Fault::at("hash_balance_factor", "must be at least 100")),
        factor => Ok(factor),
    }
}
