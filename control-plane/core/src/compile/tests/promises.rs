use std::collections::BTreeSet;
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use proptest::prelude::*;
use segue_shared::ids::{Revision, ServiceName};
use segue_shared::xds_names::type_urls::{CLUSTER, ENDPOINT, ROUTE, SNAPSHOT_MARK};

use super::mesh::{at, chat, edit, mesh, prefix, routed, rule, service};
use super::readable::{routes_of, split_of};
use super::{ENVOY, compiler};
use crate::compile::{NodeKind, ResolvedEndpoints};
use crate::config::mesh::{MeshConfig, Mirror, Protocol, SplitBy};
use crate::snapshot::XdsSnapshot;

fn compiled(config: &MeshConfig) -> Arc<XdsSnapshot> {
    super::compiled(NodeKind::Sidecar, config)
}

/// `type name` of what differs.
fn changed(before: &XdsSnapshot, after: &XdsSnapshot) -> BTreeSet<(&'static str, String)> {
    let all = |snapshot: &XdsSnapshot| -> BTreeSet<(&'static str, String, String)> {
        let types = snapshot.resources.iter();
        types
            .flat_map(|(url, resources)| {
                resources
                    .values()
                    .map(|one| (*url, one.name().to_string(), one.version().to_owned()))
            })
            .collect()
    };
    let (before, after) = (all(before), all(after));
    before.symmetric_difference(&after).map(|(url, name, _)| (*url, name.clone())).collect()
}

fn two_services() -> MeshConfig {
    let other = service("other", Protocol::Grpc, &[("v1", &[9500])]);
    let mut config = chat();
    config.services.extend(mesh([other]).services);
    routed(config, "chat", SplitBy::Random, vec![rule(prefix("/"), &[("v1", 95), ("v2", 5)])])
}

#[test]
fn equal_input_gives_equal_bytes() {
    let (first, second) = (compiled(&two_services()), compiled(&two_services()));
    assert_eq!(first.resources, second.resources);
    assert_eq!(first.digest, second.digest);
}

#[test]
fn a_new_revision_alone_changes_only_the_mark() {
    let before = two_services();
    let after = MeshConfig { revision: Revision(8), ..before.clone() };
    let mark = (SNAPSHOT_MARK, "snapshot".to_owned());
    assert_eq!(changed(&compiled(&before), &compiled(&after)), BTreeSet::from([mark]));
}

#[test]
fn changed_endpoints_change_only_their_assignment() {
    let before = two_services();
    let mut after = before.clone();
    edit(&mut after, "chat", |chat| chat.versions[1].endpoints.push(at(9999)));
    let expected = [(ENDPOINT, "default/chat/v2"), (SNAPSHOT_MARK, "snapshot")]
        .map(|(url, name)| (url, name.to_owned()));
    assert_eq!(changed(&compiled(&before), &compiled(&after)), expected.into());
}

#[test]
fn discovered_addresses_in_another_order_are_no_change() {
    let mut config = chat();
    edit(&mut config, "chat", |chat| chat.versions[0].dns = Some(("a".to_owned(), 1)));
    let resolved = |addresses: [u16; 3]| {
        let mut resolved = ResolvedEndpoints::default();
        resolved.0.insert("default/chat/v1".into(), addresses.map(at).into());
        compiler(NodeKind::Sidecar, &config, &resolved).whole()
    };
    assert!(changed(&resolved([1, 2, 3]), &resolved([3, 1, 2])).is_empty());
}

/// `(cluster, buckets)` of the one route of chat, as Envoy and as our sidecars see it.
fn split(config: &MeshConfig) -> Vec<(String, u32)> {
    let route = routes_of(&compiled(config), "default/chat").remove(0);
    let split = split_of(&route);
    let Some(Action::Route(action)) = route.action else { panic!("no route action") };
    match action.cluster_specifier.unwrap() {
        ClusterSpecifier::Cluster(cluster) => {
            assert_eq!(split, None);
            vec![(cluster, 10_000)]
        }
        ClusterSpecifier::WeightedClusters(weighted) => {
            let ours = split.unwrap().ranges.into_iter().map(|one| (one.cluster, one.buckets));
            let clusters = weighted.clusters.into_iter();
            let theirs: Vec<_> =
                clusters.map(|one| (one.name, one.weight.unwrap().value)).collect();
            assert_eq!(theirs, ours.collect::<Vec<_>>());
            theirs
        }
        other => panic!("{other:?}"),
    }
}

fn of_weights(written: &[(&str, u32)]) -> Vec<(String, u32)> {
    let versions: &[(&str, &[u16])] = &[("v1", &[1]), ("v2", &[2]), ("v3", &[3])];
    let config = mesh([service("chat", Protocol::Http, versions)]);
    split(&routed(config, "chat", SplitBy::Random, vec![rule(prefix("/"), written)]))
}

proptest! {
    /// Whatever is written in whatever order: the oldest first, 10,000 in all, nothing empty.
    #[test]
    fn splits_are_ordered_whole_and_without_zeros(
        weights in prop::collection::vec(0u32..=10_000, 3), turn in 0usize..3,
    ) {
        prop_assume!(weights.iter().any(|&weight| weight > 0));
        let labels = ["v1", "v2", "v3"];
        let mut written: Vec<_> = labels.into_iter().zip(weights).collect();
        let expected = of_weights(&written);
        written.rotate_left(turn);
        let split = of_weights(&written);
        prop_assert_eq!(&split, &expected);
        prop_assert!(split.is_sorted());
        prop_assert!(split.iter().all(|(_, buckets)| *buckets > 0));
        prop_assert_eq!(split.iter().map(|(_, buckets)| buckets).sum::<u32>(), 10_000);
    }
}

/// `shop/cart` depends on `chat`, whose routes lead to `model` and mirror to `audit`.
fn dependent() -> MeshConfig {
    let names = ["shop/cart", "chat", "model", "audit", "other"];
    let mut config = mesh(names.map(|name| service(name, Protocol::Http, &[("v1", &[9000])])));
    let mut cart = service("shop/cart", Protocol::Http, &[("v1", &[9000])]);
    cart.depends_on = Some(vec!["chat".parse().unwrap()]);
    config.services.insert(cart.name.clone(), cart.into());
    let mut all = rule(prefix("/"), &[("v1", 1)]);
    all.backends[0].service = "model".parse().unwrap();
    all.filters.mirror = Some(Mirror {
        service: "audit".parse().unwrap(),
        version: "v1".parse().unwrap(),
        share: 100,
    });
    routed(config, "chat", SplitBy::Random, vec![all])
}

fn names_of(snapshot: &XdsSnapshot, type_url: &str) -> Vec<String> {
    snapshot.of_type(type_url).unwrap().keys().map(ToString::to_string).collect()
}

#[test]
fn instances_of_a_service_get_what_it_depends_on_and_where_that_leads() {
    let upstreams = ["default/audit/v1", "default/chat/v1", "default/model/v1", "shop/cart/v1"];
    let cart = "shop/cart".parse().unwrap();
    for kind in [NodeKind::Sidecar, ENVOY] {
        let mut compiler = compiler(kind, &dependent(), &ResolvedEndpoints::default());
        let snapshot = compiler.scoped(&cart);
        assert_eq!(names_of(&snapshot, CLUSTER), upstreams);
        assert_eq!(names_of(&snapshot, ENDPOINT), upstreams);
        // Where routes lead is an upstream, and not by itself a service that may be called.
        let hosts = super::readable::hosts_of(&snapshot);
        assert_eq!(hosts, ["default/chat", "shop/cart"]);
        for all in ["chat", "nobody"] {
            let others = compiler.scoped(&all.parse().unwrap());
            assert!(Arc::ptr_eq(&others, &compiler.whole()), "{all} declares nothing");
        }
    }
    let grpc = compiler(NodeKind::Grpc, &dependent(), &ResolvedEndpoints::default()).scoped(&cart);
    assert_eq!(names_of(&grpc, ROUTE), ["grpc/default/chat", "grpc/shop/cart"]);
}

#[test]
fn a_scope_follows_what_is_declared() {
    let mut config = dependent();
    let cart = "shop/cart".parse().unwrap();
    let mut compiler = compiler(NodeKind::Sidecar, &config, &ResolvedEndpoints::default());
    let before = compiler.scoped(&cart);

    // What it does not need changes nothing but the mark.
    edit(&mut config, "other", |other| other.versions[0].endpoints.push(at(1)));
    config.revision = config.revision.next();
    compiler.update(&Arc::new(config.clone()), &Arc::default()).unwrap();
    let mark = (SNAPSHOT_MARK, "snapshot".to_owned());
    assert_eq!(changed(&before, &compiler.scoped(&cart)), BTreeSet::from([mark]));

    config.routes.remove(&"chat".parse::<ServiceName>().unwrap());
    compiler.update(&Arc::new(config.clone()), &Arc::default()).unwrap();
    let upstreams = names_of(&compiler.scoped(&cart), CLUSTER);
    assert_eq!(upstreams, ["default/chat/v1", "shop/cart/v1"]);

    Arc::make_mut(config.services.get_mut(&cart).unwrap()).depends_on = None;
    compiler.update(&Arc::new(config), &Arc::default()).unwrap();
    assert!(Arc::ptr_eq(&compiler.scoped(&cart), &compiler.whole()));
}
