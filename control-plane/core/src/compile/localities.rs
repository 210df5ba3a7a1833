//! What the places of endpoints mean, in the two forms that Envoy has for it: one for all policies,
//! which its own old ones and our sidecars read, and one inside the newer ones, which ignore the first.

use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config as old;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::LocalityLbConfig;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config as new;
use envoy_types::pb::google::protobuf::{UInt32Value, UInt64Value};

use crate::config::mesh::Localities;

/// For all policies.
pub(super) fn common(localities: Localities) -> Option<old::LocalityConfigSpecifier> {
    use old::LocalityConfigSpecifier as Specifier;
    match localities {
        Localities::Ignored => None,
        Localities::Weighted => {
            Some(Specifier::LocalityWeightedLbConfig(old::LocalityWeightedLbConfig {}))
        }
        Localities::ZoneAware { min_endpoints, .. } => {
            Some(Specifier::ZoneAwareLbConfig(old::ZoneAwareLbConfig {
                min_cluster_size: Some(UInt64Value { value: min_endpoints.into() }),
                ..old::ZoneAwareLbConfig::default()
            }))
        }
    }
}

/// For one policy.
pub(super) fn of_policy(localities: Localities) -> Option<LocalityLbConfig> {
    use new::LocalityConfigSpecifier as Specifier;
    let specifier = match localities {
        Localities::Ignored => return None,
        Localities::Weighted => {
            Specifier::LocalityWeightedLbConfig(new::LocalityWeightedLbConfig {})
        }
        Localities::ZoneAware { min_endpoints, all_local_from } => {
            let force = |value| new::zone_aware_lb_config::ForceLocalZone {
                min_size: Some(UInt32Value { value }),
            };
            Specifier::ZoneAwareLbConfig(new::ZoneAwareLbConfig {
                min_cluster_size: Some(UInt64Value { value: min_endpoints.into() }),
                force_local_zone: all_local_from.map(force),
                ..new::ZoneAwareLbConfig::default()
            })
        }
    };
    Some(LocalityLbConfig { locality_config_specifier: Some(specifier) })
}

/// For a policy that hashes: it knows weights only.
pub(super) fn weighted(localities: Localities) -> Option<new::LocalityWeightedLbConfig> {
    (localities == Localities::Weighted).then_some(new::LocalityWeightedLbConfig {})
}

/// Whether requests stay whatever that burdens, for which only policies have a field.
pub(super) fn is_forced(localities: Localities) -> bool {
    matches!(localities, Localities::ZoneAware { all_local_from: Some(_), .. })
}
