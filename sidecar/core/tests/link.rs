//! Resources in any order make one snapshot once nothing is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail so")]

mod sample;

use std::sync::Arc;

use prost::Message;
use segue_shared::ids::Revision;
use segue_shared::xds_names::type_urls;
use segue_sidecar_core::compile::{Link, Linker, compile};
use segue_sidecar_core::snapshot::{CompiledSnapshot, RouteAction};

use sample::{assignment, cluster, listener, routes, weighted};

fn put<M: Message>(linker: &mut Linker, type_url: &str, message: &M) {
    linker.put(compile(type_url, None, &message.encode_to_vec()).unwrap()).unwrap();
}

fn put_version(linker: &mut Linker, name: &str, address: &str) {
    put(linker, type_urls::CLUSTER, &cluster(name, false));
    put(linker, type_urls::ENDPOINT, &assignment(name, &[address]));
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

fn mesh() -> Linker {
    let mut linker = Linker::default();
    put(&mut linker, type_urls::LISTENER, &listener("outbound", "outbound", &[]));
    put(&mut linker, type_urls::ROUTE, &routes(&[("chat", "a")]));
    put_version(&mut linker, "a", "127.0.0.1:9001");
    linker
}

#[test]
fn each_missing_reference_is_told_in_turn() {
    let mut linker = Linker::default();
    assert_eq!(missing(&mut linker), ["Listener with traffic_direction OUTBOUND"]);
    put(&mut linker, type_urls::LISTENER, &listener("outbound", "outbound", &[]));
    assert_eq!(missing(&mut linker), ["RouteConfiguration outbound"]);
    put(&mut linker, type_urls::ROUTE, &weighted("chat", &[("a", 1), ("b", 1)]));
    assert_eq!(missing(&mut linker), ["Cluster a", "Cluster b"]);
    put_version(&mut linker, "a", "127.0.0.1:9001");
    put(&mut linker, type_urls::CLUSTER, &cluster("b", false));
    assert_eq!(missing(&mut linker), ["ClusterLoadAssignment b"]);
    put(&mut linker, type_urls::ENDPOINT, &assignment("b", &[]));
    assert_eq!(ready(&mut linker).clusters.len(), 2);
}

#[test]
fn what_did_not_change_is_the_same_arc() {
    let mut linker = mesh();
    put_version(&mut linker, "other", "127.0.0.1:1");
    let before = ready(&mut linker);
    put_version(&mut linker, "other", "127.0.0.1:2");
    put_version(&mut linker, "a", "127.0.0.1:9001");
    let after = ready(&mut linker);
    let get = |snapshot: &CompiledSnapshot, name: &str| {
        Arc::clone(snapshot.clusters.get(snapshot.clusters.index_of(name).unwrap()).unwrap())
    };
    assert!(Arc::ptr_eq(&before.routes, &after.routes));
    assert!(Arc::ptr_eq(&get(&before, "a"), &get(&after, "a")));
    assert!(!Arc::ptr_eq(&get(&before, "other"), &get(&after, "other")));
}

#[test]
fn indices_of_routes_lead_to_their_clusters_whatever_else_comes_and_goes() {
    let mut linker = mesh();
    for extra in ["0", "zz", "b"] {
        put_version(&mut linker, extra, "127.0.0.1:1");
        let snapshot = ready(&mut linker);
        let host = snapshot.routes.virtual_host("chat").unwrap();
        let RouteAction::Forward(forward) = &host.routes()[0].action else { panic!() };
        let index = forward.split.choose(&http::HeaderMap::new(), 7);
        assert_eq!(&*snapshot.clusters.get(index).unwrap().name, "a");
    }
}

#[test]
fn a_removed_cluster_that_a_route_names_is_waited_for() {
    let mut linker = mesh();
    ready(&mut linker);
    linker.remove(type_urls::CLUSTER, "a");
    assert_eq!(missing(&mut linker), ["Cluster a"]);
    let held = linker.link_held(None).unwrap();
    assert!(held.clusters.index_of("a").is_some(), "the last routes keep what they name");
}

#[test]
fn routes_that_cannot_link_leave_the_last_ones_with_new_endpoints() {
    let mut linker = mesh();
    ready(&mut linker);
    put(&mut linker, type_urls::ROUTE, &weighted("chat", &[("a", 1), ("refused", 1)]));
    put(&mut linker, type_urls::ENDPOINT, &assignment("a", &["127.0.0.1:9009"]));
    assert_eq!(missing(&mut linker), ["Cluster refused"]);
    let held = linker.link_held(Some(Revision(1))).unwrap();
    let a = held.clusters.get(held.clusters.index_of("a").unwrap()).unwrap();
    assert_eq!(a.endpoints[0].address.port(), 9009);
}
