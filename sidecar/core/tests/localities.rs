//! Where endpoints are and what that means: compiled, refused by path, and linked with what is known of
//! the callers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail so")]

mod sample;

use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::cluster::CommonLbConfig;
use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config as old;
use envoy_types::pb::envoy::config::cluster::v3::load_balancing_policy::Policy;
use envoy_types::pb::envoy::config::cluster::v3::{Cluster, LoadBalancingPolicy};
use envoy_types::pb::envoy::config::core::v3::{Locality as PbLocality, TypedExtensionConfig};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::LocalityLbConfig;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config as new;
use envoy_types::pb::envoy::extensions::load_balancing_policies::maglev::v3::Maglev;
use envoy_types::pb::envoy::extensions::load_balancing_policies::random::v3::Random;
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{Any, UInt32Value, UInt64Value};
use prost::Message;
use segue_proto::extension::v1::PeakEwma;
use segue_shared::extension::{pack, pack_as, type_url};
use segue_shared::xds_names::type_urls;
use segue_sidecar_core::compile::{Compiled, Link, Linker, compile};
use segue_sidecar_core::snapshot::{Cluster as Linked, Locality, LocalityRule, ZoneAware};

use sample::{assignment, cluster, listener, weighted};

fn rule(message: &Cluster) -> Result<LocalityRule, String> {
    match compile(type_urls::CLUSTER, None, &message.encode_to_vec()) {
        Ok(Compiled::Cluster(spec)) => Ok(spec.traffic.localities),
        Ok(other) => panic!("{other:?}"),
        Err(reject) => Err(reject.field_path),
    }
}

fn commonly(specifier: old::LocalityConfigSpecifier) -> Cluster {
    let common =
        CommonLbConfig { locality_config_specifier: Some(specifier), ..CommonLbConfig::default() };
    Cluster { common_lb_config: Some(common), ..cluster("a", false) }
}

fn with(mut message: Cluster, policy: Any) -> Cluster {
    let typed = TypedExtensionConfig { name: "x".to_owned(), typed_config: Some(policy) };
    let policies = vec![Policy { typed_extension_config: Some(typed) }];
    message.load_balancing_policy = Some(LoadBalancingPolicy { policies });
    message
}

fn at_random(zone: new::ZoneAwareLbConfig) -> Cluster {
    let specifier = new::LocalityConfigSpecifier::ZoneAwareLbConfig(zone);
    let config = LocalityLbConfig { locality_config_specifier: Some(specifier) };
    let random = pack(&Random { locality_lb_config: Some(config) });
    let weighted = old::LocalityWeightedLbConfig {};
    let outer = old::LocalityConfigSpecifier::LocalityWeightedLbConfig(weighted);
    with(commonly(outer), random)
}

#[test]
fn both_places_of_the_rule_are_read_and_the_inner_one_counts() {
    assert_eq!(rule(&cluster("a", false)), Ok(LocalityRule::Ignored));
    let weighted = old::LocalityWeightedLbConfig {};
    let weighted = old::LocalityConfigSpecifier::LocalityWeightedLbConfig(weighted);
    assert_eq!(rule(&commonly(weighted)), Ok(LocalityRule::Weighted));
    let zone = old::ZoneAwareLbConfig {
        routing_enabled: Some(Percent { value: 12.5 }),
        min_cluster_size: Some(UInt64Value { value: 3 }),
        fail_traffic_on_panic: false,
    };
    let zone = commonly(old::LocalityConfigSpecifier::ZoneAwareLbConfig(zone));
    let expected = ZoneAware { enabled: 1_250, min_endpoints: 3, all_from: None };
    assert_eq!(rule(&zone), Ok(LocalityRule::ZoneAware(expected)));
    let ours = PeakEwma { slow_start_millis: 0, all_local_from: 2 };
    let ours = with(zone, pack_as(&type_url("segue.extension.v1.PeakEwma"), &ours));
    let expected = ZoneAware { all_from: Some(2), ..expected };
    assert_eq!(rule(&ours), Ok(LocalityRule::ZoneAware(expected)));

    let plain = ZoneAware::default();
    assert_eq!((plain.enabled, plain.min_endpoints), (10_000, 6));
    let zone = new::ZoneAwareLbConfig::default();
    assert_eq!(rule(&at_random(zone)), Ok(LocalityRule::ZoneAware(plain)));
    for (size, all_from) in [(None, 1), (Some(UInt32Value { value: 4 }), 4)] {
        let force = new::zone_aware_lb_config::ForceLocalZone { min_size: size };
        let zone = new::ZoneAwareLbConfig { force_local_zone: Some(force), ..zone };
        let expected = ZoneAware { all_from: Some(all_from), ..plain };
        assert_eq!(rule(&at_random(zone)), Ok(LocalityRule::ZoneAware(expected)));
    }
    let weighted = Some(new::LocalityWeightedLbConfig {});
    let maglev = Maglev { locality_weighted_lb_config: weighted, ..Maglev::default() };
    assert_eq!(rule(&with(cluster("a", false), pack(&maglev))), Ok(LocalityRule::Weighted));
}

#[test]
#[allow(deprecated)]
fn what_would_do_something_else_is_refused() {
    let policy = "load_balancing_policy.policies[0].typed_extension_config.typed_config";
    let place = format!("{policy}.locality_lb_config.zone_aware_lb_config");
    let plain = new::ZoneAwareLbConfig::default();
    for (zone, field) in [
        (new::ZoneAwareLbConfig { fail_traffic_on_panic: true, ..plain }, "fail_traffic_on_panic"),
        (
            new::ZoneAwareLbConfig { force_locality_direct_routing: true, ..plain },
            "force_locality_direct_routing",
        ),
        (new::ZoneAwareLbConfig { locality_basis: 1, ..plain }, "locality_basis"),
        (
            new::ZoneAwareLbConfig { routing_enabled: Some(Percent { value: 101.0 }), ..plain },
            "routing_enabled.value",
        ),
    ] {
        assert_eq!(rule(&at_random(zone)), Err(format!("{place}.{field}")));
    }
    let zone = old::ZoneAwareLbConfig { fail_traffic_on_panic: true, ..Default::default() };
    let zone = commonly(old::LocalityConfigSpecifier::ZoneAwareLbConfig(zone));
    let place = "common_lb_config.zone_aware_lb_config.fail_traffic_on_panic";
    assert_eq!(rule(&zone), Err(place.to_owned()));
}

/// Endpoints by zone.
fn zones(name: &str, of: &[(&str, &[&str])]) -> ClusterLoadAssignment {
    let mut message = assignment(name, &[]);
    message.endpoints = Vec::new();
    for &(zone, addresses) in of {
        let mut local = assignment(name, addresses).endpoints.remove(0);
        local.locality = Some(PbLocality { zone: zone.to_owned(), ..PbLocality::default() });
        local.load_balancing_weight = Some(UInt32Value { value: 7 });
        message.endpoints.push(local);
    }
    message
}

fn zone(name: &str) -> Locality {
    Locality { zone: name.into(), ..Locality::default() }
}

fn put<M: Message>(linker: &mut Linker, type_url: &str, message: &M) {
    linker.put(compile(type_url, None, &message.encode_to_vec()).unwrap()).unwrap();
}

fn linked(linker: &mut Linker, name: &str) -> Arc<Linked> {
    let Link::Ready(snapshot) = linker.link(None) else { panic!("something is missing") };
    let index = snapshot.clusters.index_of(name).unwrap();
    Arc::clone(snapshot.clusters.get(index).unwrap())
}

#[test]
fn a_zone_aware_cluster_knows_where_the_own_service_is() {
    let mut linker = Linker::default();
    linker.at(zone("a"), "default/front");
    put(&mut linker, type_urls::LISTENER, &listener("outbound", "outbound", &[]));
    put(&mut linker, type_urls::ROUTE, &weighted("chat", &[("chat", 1), ("plain", 1)]));
    let aware = old::LocalityConfigSpecifier::ZoneAwareLbConfig(old::ZoneAwareLbConfig::default());
    put(&mut linker, type_urls::CLUSTER, &Cluster { name: "chat".to_owned(), ..commonly(aware) });
    put(&mut linker, type_urls::CLUSTER, &cluster("plain", false));
    put(
        &mut linker,
        type_urls::ENDPOINT,
        &zones("chat", &[("a", &["10.0.0.1:80"]), ("", &["10.0.0.2:80"])]),
    );
    put(&mut linker, type_urls::ENDPOINT, &assignment("plain", &[]));
    let alone = linked(&mut linker, "chat");
    let places: Vec<_> = alone.endpoints.iter().map(|it| it.locality.as_deref().cloned()).collect();
    assert_eq!(places, [Some(zone("a")), None], "a place without a name is none");
    assert_eq!(alone.endpoints[0].locality_weight, 7);
    let callers = alone.callers.as_ref().unwrap();
    assert_eq!((&callers.own, callers.counts.len()), (&zone("a"), 0));
    let plain = linked(&mut linker, "plain");
    assert!(plain.callers.is_none());

    for (version, ports) in [("v1", "1"), ("v2", "2")] {
        let name = format!("default/front/{version}");
        put(&mut linker, type_urls::CLUSTER, &cluster(&name, false));
        let (a, b) = (format!("10.1.0.1:{ports}"), format!("10.1.0.2:{ports}"));
        put(&mut linker, type_urls::ENDPOINT, &zones(&name, &[("a", &[&a]), ("b", &[&b])]));
    }
    let known = linked(&mut linker, "chat");
    let counts = &known.callers.as_ref().unwrap().counts;
    assert_eq!(counts.iter().collect::<Vec<_>>(), [(&zone("a"), &2), (&zone("b"), &2)]);
    assert!(Arc::ptr_eq(&known, &linked(&mut linker, "chat")), "nothing has changed");
    assert!(Arc::ptr_eq(&plain, &linked(&mut linker, "plain")), "it is nobody else's business");

    put(&mut linker, type_urls::ENDPOINT, &zones("default/front/v2", &[("b", &["10.1.0.2:2"])]));
    put(&mut linker, type_urls::ENDPOINT, &zones("default/front/v1", &[("b", &["10.1.0.2:1"])]));
    let elsewhere = linked(&mut linker, "chat");
    let counts = &elsewhere.callers.as_ref().unwrap().counts;
    assert!(counts.is_empty(), "who is not among the callers knows nothing of its part");
}
