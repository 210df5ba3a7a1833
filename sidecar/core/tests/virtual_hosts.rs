//! Virtual hosts that come as resources of their own (VHDS).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail so")]

mod sample;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3::VirtualHost as PbVirtualHost;
use proptest::prelude::*;
use prost::Message;
use segue_shared::ids::Revision;
use segue_shared::xds_names::type_urls;
use segue_sidecar_core::compile::{Compiled, HostResource, Link, Linker, compile};
use segue_sidecar_core::snapshot::{CompiledSnapshot, RouteAction, VirtualHost};

use sample::{assignment, cluster, listener, routes, vhds, virtual_host};

fn put<M: Message>(linker: &mut Linker, type_url: &str, message: &M) {
    linker.put(compile(type_url, None, &message.encode_to_vec()).unwrap()).unwrap();
}

fn put_version(linker: &mut Linker, name: &str) {
    put(linker, type_urls::CLUSTER, &cluster(name, false));
    put(linker, type_urls::ENDPOINT, &assignment(name, &["127.0.0.1:1"]));
}

fn resource(message: &PbVirtualHost) -> HostResource {
    let name = format!("outbound/{}", message.name);
    match compile(type_urls::VIRTUAL_HOST, Some(&name), &message.encode_to_vec()) {
        Ok(Compiled::Host(host)) => *host,
        other => panic!("{other:?}"),
    }
}

/// Puts hosts (name, domains, cluster) as one response; gives the refusals.
fn put_hosts(linker: &mut Linker, hosts: &[(&str, &[&str], &str)]) -> Vec<String> {
    let resources = hosts
        .iter()
        .map(|(name, domains, cluster)| resource(&virtual_host(name, domains, cluster)));
    linker.put_hosts(resources.collect()).iter().map(ToString::to_string).collect()
}

fn mesh(clusters: &[&str]) -> Linker {
    let mut linker = Linker::default();
    put(&mut linker, type_urls::LISTENER, &listener("outbound", "outbound", &[]));
    put(&mut linker, type_urls::ROUTE, &vhds());
    for name in clusters {
        put_version(&mut linker, name);
    }
    linker
}

fn ready(linker: &mut Linker) -> CompiledSnapshot {
    match linker.link(Some(Revision(1))) {
        Link::Ready(snapshot) => snapshot,
        Link::Waiting { missing } => panic!("waits for {missing:?}"),
    }
}

fn missing(linker: &mut Linker) -> Vec<String> {
    match linker.link(None) {
        Link::Ready(snapshot) => panic!("{snapshot:?}"),
        Link::Waiting { missing } => missing,
    }
}

fn host<'a>(snapshot: &'a CompiledSnapshot, domain: &str) -> Option<&'a Arc<VirtualHost>> {
    snapshot.routes.virtual_host(domain)
}

/// The cluster that a domain leads to.
fn leads_to(snapshot: &CompiledSnapshot, domain: &str) -> Option<String> {
    let RouteAction::Forward(forward) = &host(snapshot, domain)?.routes()[0].action else {
        panic!()
    };
    let index = forward.split.choose(&http::HeaderMap::new(), 7);
    Some(snapshot.clusters.get(index)?.name.to_string())
}

#[test]
fn hosts_that_come_apart_stand_beside_those_inside() {
    let mut linker = mesh(&["a", "b"]);
    let mut both = routes(&[("inside", "a")]);
    both.vhds = vhds().vhds;
    put(&mut linker, type_urls::ROUTE, &both);
    assert_eq!(linker.wanted_hosts(), BTreeSet::from(["outbound".to_owned()]));
    assert_eq!(missing(&mut linker), ["VirtualHost outbound/*"]);
    assert_eq!(put_hosts(&mut linker, &[("default/chat", &["chat", "*.chat"], "b")]), [""; 0]);
    let snapshot = ready(&mut linker);
    for (domain, cluster) in [("inside", "a"), ("chat:80", "b"), ("x.chat", "b")] {
        assert_eq!(leads_to(&snapshot, domain).as_deref(), Some(cluster), "{domain}");
    }
    linker.remove(type_urls::VIRTUAL_HOST, "outbound/default/chat");
    assert!(host(&ready(&mut linker), "chat").is_none());
}

#[test]
fn a_configuration_may_have_no_hosts_at_all() {
    let mut linker = mesh(&[]);
    assert_eq!(missing(&mut linker), ["VirtualHost outbound/*"]);
    linker.hosts_told();
    assert!(host(&ready(&mut linker), "chat").is_none());
}

#[test]
fn hosts_of_another_configuration_are_not_linked() {
    let mut linker = mesh(&["a"]);
    put_hosts(&mut linker, &[("default/chat", &["chat"], "a")]);
    let other = virtual_host("chat", &["chat", "other"], "a").encode_to_vec();
    let other = compile(type_urls::VIRTUAL_HOST, Some("elsewhere/chat"), &other).unwrap();
    linker.put(other).unwrap();
    let snapshot = ready(&mut linker);
    assert!(host(&snapshot, "chat").is_some());
    assert!(host(&snapshot, "other").is_none());
}

#[test]
fn a_change_of_one_host_leaves_the_others_and_all_places_as_they_are() {
    let mut linker = mesh(&["a", "b", "c"]);
    put_hosts(&mut linker, &[("x", &["x"], "a"), ("y", &["y"], "b")]);
    let before = ready(&mut linker);
    put_hosts(&mut linker, &[("x", &["x"], "c")]);
    let after = ready(&mut linker);
    assert!(Arc::ptr_eq(host(&before, "y").unwrap(), host(&after, "y").unwrap()));
    assert_eq!(leads_to(&before, "x").as_deref(), Some("a"), "who holds the old one is not misled");
    assert_eq!(leads_to(&after, "x").as_deref(), Some("c"));
    assert_eq!(leads_to(&after, "y").as_deref(), Some("b"));
    assert!(after.clusters.index_of("a").is_some(), "not routed, and still there");
    assert!(after.clusters.routed_by_name("a").is_none());
}

#[test]
fn one_domain_has_one_host_and_the_refusal_names_both() {
    let mut linker = mesh(&["a", "b"]);
    put_hosts(&mut linker, &[("x", &["one", "two"], "a")]);
    let refused = put_hosts(&mut linker, &[("y", &["three", "two"], "b"), ("z", &["four"], "b")]);
    assert_eq!(
        refused,
        ["VirtualHost outbound/y: domains[1]: \"two\" belongs to VirtualHost outbound/x already"]
    );
    let snapshot = ready(&mut linker);
    assert_eq!(leads_to(&snapshot, "two").as_deref(), Some("a"));
    assert!(host(&snapshot, "three").is_none());
    assert_eq!(leads_to(&snapshot, "four").as_deref(), Some("b"));

    // Of two new ones the first by name, whatever the order in the response.
    let refused = put_hosts(&mut linker, &[("q", &["five"], "b"), ("p", &["five"], "a")]);
    assert_eq!(refused.len(), 1);
    assert_eq!(leads_to(&ready(&mut linker), "five").as_deref(), Some("a"));

    let mut inside = routes(&[("five", "a")]);
    inside.vhds = vhds().vhds;
    let compiled = compile(type_urls::ROUTE, None, &inside.encode_to_vec()).unwrap();
    assert_eq!(
        linker.put(compiled).unwrap_err().to_string(),
        "RouteConfiguration outbound: virtual_hosts[0].domains[0]: \"five\" belongs to VirtualHost \
         outbound/p already"
    );
}

#[test]
fn domains_may_change_hands_within_a_response() {
    let mut linker = mesh(&["a", "b", "c"]);
    put_hosts(&mut linker, &[("x", &["one"], "a"), ("y", &["two"], "b")]);
    assert_eq!(put_hosts(&mut linker, &[("x", &["two"], "a"), ("y", &["one"], "b")]), [""; 0]);
    let snapshot = ready(&mut linker);
    assert_eq!(leads_to(&snapshot, "one").as_deref(), Some("b"));
    assert_eq!(leads_to(&snapshot, "two").as_deref(), Some("a"));

    // One that is refused keeps what it has, so who wanted that is refused as well.
    put_hosts(&mut linker, &[("z", &["three"], "c")]);
    let refused = put_hosts(&mut linker, &[("x", &["three"], "a"), ("y", &["two"], "b")]);
    assert_eq!(refused.len(), 2);
    let snapshot = ready(&mut linker);
    assert_eq!(leads_to(&snapshot, "one").as_deref(), Some("b"));
    assert_eq!(leads_to(&snapshot, "two").as_deref(), Some("a"));
}

#[test]
fn a_host_that_cannot_link_is_held_alone() {
    let mut linker = mesh(&["a", "b"]);
    put_hosts(&mut linker, &[("x", &["x"], "a"), ("y", &["y"], "b")]);
    ready(&mut linker);
    let news: [(&str, &[&str], &str); 3] =
        [("x", &["x"], "missing"), ("y", &["y", "z"], "b"), ("new", &["new"], "missing")];
    put_hosts(&mut linker, &news);
    assert_eq!(missing(&mut linker), ["Cluster missing"]);
    let held = linker.link_held(Some(Revision(1))).unwrap();
    assert_eq!(leads_to(&held, "x").as_deref(), Some("a"));
    assert_eq!(leads_to(&held, "z").as_deref(), Some("b"), "the others go on");
    assert!(host(&held, "new").is_none());
    put_version(&mut linker, "missing");
    let snapshot = ready(&mut linker);
    assert_eq!(leads_to(&snapshot, "x").as_deref(), Some("missing"));
    assert_eq!(leads_to(&snapshot, "new").as_deref(), Some("missing"));
}

proptest! {
    /// Whatever comes and goes, every host leads to the clusters that it names.
    #[test]
    fn places_never_mislead(
        steps in prop::collection::vec((0usize..5, prop::option::of(0usize..5)), 1..40),
    ) {
        const HOSTS: [&str; 5] = ["h0", "h1", "h2", "h3", "h4"];
        const CLUSTERS: [&str; 5] = ["c0", "c1", "c2", "c3", "c4"];
        let mut linker = mesh(&CLUSTERS);
        linker.hosts_told();
        let mut model: BTreeMap<&str, &str> = BTreeMap::new();
        let mut old: Vec<(CompiledSnapshot, BTreeMap<&str, &str>)> = Vec::new();
        for (which, cluster) in steps {
            let name = HOSTS[which];
            if let Some(cluster) = cluster {
                put_hosts(&mut linker, &[(name, &[name], CLUSTERS[cluster])]);
                model.insert(name, CLUSTERS[cluster]);
            } else {
                linker.remove(type_urls::VIRTUAL_HOST, &format!("outbound/{name}"));
                model.remove(name);
            }
            old.push((ready(&mut linker), model.clone()));
            for (snapshot, model) in &old {
                for name in HOSTS {
                    let expected = model.get(name).map(|it| (*it).to_owned());
                    prop_assert_eq!(leads_to(snapshot, name), expected);
                }
            }
        }
    }
}
