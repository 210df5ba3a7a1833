//! What a `Cluster` says of the localities of its endpoints.
//!
//! | field | taken |
//! |---|---|
//! | `common_lb_config`: `locality_weighted_lb_config`, `zone_aware_lb_config` | yes |
//! | `locality_lb_config`, `locality_weighted_lb_config` of the policy in `load_balancing_policy` | yes, before those of `common_lb_config` |
//! | `zone_aware_lb_config`: `routing_enabled`, `min_cluster_size`, `force_local_zone.min_size` | yes |
//! | `fail_traffic_on_panic`, `force_locality_direct_routing`, `locality_basis: HEALTHY_HOSTS_WEIGHT` | refused |
//!
//! Envoy learns where other callers are from a cluster that its bootstrap names; here it is every
//! cluster of the sidecar's own service.

use envoy_types::pb::envoy::config::cluster::v3::cluster::CommonLbConfig;
use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config as common;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::LocalityLbConfig;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config as typed;
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::UInt64Value;

use super::field::refuse;
use crate::reject::Fault;
use crate::snapshot::{LocalityRule, ZoneAware};

/// The rule of `common_lb_config`.
pub(super) fn common(config: &CommonLbConfig) -> Result<LocalityRule, Fault> {
    use common::LocalityConfigSpecifier as Specifier;
    match &config.locality_config_specifier {
        None => Ok(LocalityRule::Ignored),
        Some(Specifier::LocalityWeightedLbConfig(_)) => Ok(LocalityRule::Weighted),
        Some(Specifier::ZoneAwareLbConfig(zone)) => {
            let rule = || {
                refuse(zone.fail_traffic_on_panic, "fail_traffic_on_panic")?;
                zone_aware(zone.routing_enabled.as_ref(), zone.min_cluster_size.as_ref())
            };
            let rule = rule().map_err(|fault| fault.under("zone_aware_lb_config"))?;
            Ok(LocalityRule::ZoneAware(rule))
        }
    }
}

/// The rule of a policy; `None` where it says nothing.
#[allow(deprecated, reason = "a field that is refused")]
pub(super) fn of_policy(config: &LocalityLbConfig) -> Result<Option<LocalityRule>, Fault> {
    use typed::LocalityConfigSpecifier as Specifier;
    match &config.locality_config_specifier {
        None => Ok(None),
        Some(Specifier::LocalityWeightedLbConfig(_)) => Ok(Some(LocalityRule::Weighted)),
        Some(Specifier::ZoneAwareLbConfig(zone)) => {
            let rule = || {
                refuse(zone.fail_traffic_on_panic, "fail_traffic_on_panic")?;
                refuse(zone.force_locality_direct_routing, "force_locality_direct_routing")?;
                refuse(zone.locality_basis != 0, "locality_basis")?;
                let rule =
                    zone_aware(zone.routing_enabled.as_ref(), zone.min_cluster_size.as_ref())?;
                let all_from = zone.force_local_zone.as_ref();
                let all_from = all_from.map(|force| force.min_size.map_or(1, |size| size.value));
                Ok(ZoneAware { all_from, ..rule })
            };
            let rule = rule()
                .map_err(|fault: Fault| fault.under("locality_lb_config.zone_aware_lb_config"))?;
            Ok(Some(LocalityRule::ZoneAware(rule)))
        }
    }
}

fn zone_aware(
    enabled: Option<&Percent>,
    min_endpoints: Option<&UInt64Value>,
) -> Result<ZoneAware, Fault> {
    let mut rule = ZoneAware::default();
    if let Some(percent) = enabled {
        if !(0.0..=100.0).contains(&percent.value) {
            return Err(Fault::at("routing_enabled.value", "is no percentage"));
        }
        rule.enabled = (percent.value * f64::from(ZoneAware::ALL) / 100.0) as u16;
    }
    if let Some(min) = min_endpoints {
        rule.min_endpoints = u32::try_from(min.value).unwrap_or(u32::MAX);
    }
    Ok(rule)
}
