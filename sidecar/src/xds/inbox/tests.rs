//! Whole conversations with a control plane, without I/O: responses in, requests out.

mod names;
mod wildcard;

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use segue_shared::xds_names::type_urls::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SNAPSHOT_MARK};

use super::*;
use crate::xds::delta::DeltaStream;
use crate::xds::sample::{assignment, cluster, listener, mark, routes, tls_cluster};
use crate::xds::sotw::SotwStream;

fn delta_response(type_url: &str, resources: Vec<(&str, &str, Any)>) -> DeltaDiscoveryResponse {
    let resource = |(name, version, any): (&str, &str, Any)| Resource {
        name: name.to_owned(),
        version: version.to_owned(),
        resource: Some(any),
        ..Default::default()
    };
    DeltaDiscoveryResponse {
        type_url: type_url.to_owned(),
        resources: resources.into_iter().map(resource).collect(),
        nonce: "n".to_owned(),
        ..Default::default()
    }
}

fn open(inbox: &Inbox) -> (DeltaStream, Vec<DeltaDiscoveryRequest>) {
    DeltaStream::open(Node { id: "me".to_owned(), ..Default::default() }, inbox, true)
}

/// Type, subscribed, unsubscribed, whether it is a NACK.
fn told(requests: &[DeltaDiscoveryRequest]) -> Vec<(&str, Vec<&str>, Vec<&str>, bool)> {
    fn names(names: &[String]) -> Vec<&str> {
        names.iter().map(String::as_str).collect()
    }
    requests
        .iter()
        .map(|it| {
            (
                it.type_url.as_str(),
                names(&it.resource_names_subscribe),
                names(&it.resource_names_unsubscribe),
                it.error_detail.is_some(),
            )
        })
        .collect()
}

fn ready(inbox: &mut Inbox) -> Linked {
    match inbox.link() {
        Linking::Ready(linked) => *linked,
        other => panic!("{other:?}"),
    }
}

/// A sidecar that runs on revision 1: chat leads to a.
fn running() -> (DeltaStream, Inbox) {
    let mut inbox = Inbox::default();
    let (mut stream, _) = open(&inbox);
    for response in [
        delta_response(CLUSTER, vec![("a", "1", cluster("a"))]),
        delta_response(ENDPOINT, vec![("a", "1", assignment("a", 9001))]),
        delta_response(LISTENER, vec![("outbound", "1", listener())]),
        delta_response(ROUTE, vec![("outbound", "1", routes("a"))]),
        delta_response(SNAPSHOT_MARK, vec![("snapshot", "1", mark(1))]),
    ] {
        let (_, rejects) = stream.receive(response, &mut inbox);
        assert_eq!(rejects, []);
    }
    assert_eq!(ready(&mut inbox).snapshot.revision, Some(Revision(1)));
    (stream, inbox)
}

#[test]
fn a_first_stream_asks_for_everything_and_names_follow_what_comes() {
    let mut inbox = Inbox::default();
    let (mut stream, first) = open(&inbox);
    let none = Vec::new;
    assert_eq!(
        told(&first),
        [
            (CLUSTER, none(), none(), false),
            (LISTENER, none(), none(), false),
            (SNAPSHOT_MARK, vec!["snapshot"], none(), false),
        ]
    );
    assert_eq!(first.iter().filter(|request| request.node.is_some()).count(), 1);

    let clusters = vec![("a", "1", cluster("a")), ("b", "1", cluster("b"))];
    let (follow, _) = stream.receive(delta_response(CLUSTER, clusters), &mut inbox);
    assert_eq!(
        told(&follow),
        [(CLUSTER, none(), none(), false), (ENDPOINT, vec!["a", "b"], none(), false)]
    );
    let (follow, _) =
        stream.receive(delta_response(LISTENER, vec![("outbound", "1", listener())]), &mut inbox);
    assert_eq!(
        told(&follow),
        [(LISTENER, none(), none(), false), (ROUTE, vec!["outbound"], none(), false)]
    );

    let removal = DeltaDiscoveryResponse {
        removed_resources: vec!["b".to_owned()],
        ..delta_response(CLUSTER, Vec::new())
    };
    let (follow, _) = stream.receive(removal, &mut inbox);
    assert_eq!(
        told(&follow),
        [(CLUSTER, none(), none(), false), (ENDPOINT, none(), vec!["b"], false)]
    );
}

#[test]
fn one_bad_resource_of_three_is_refused_alone() {
    let (mut stream, mut inbox) = running();
    let response = delta_response(
        CLUSTER,
        vec![("a", "2", tls_cluster("a")), ("b", "2", cluster("b")), ("c", "2", cluster("c"))],
    );
    let (follow, rejects) = stream.receive(response, &mut inbox);
    let nack = follow[0].error_detail.clone().unwrap();
    assert_eq!(nack.message, "Cluster a: transport_socket.typed_config: must be set");
    assert_eq!(nack.code, 3);
    assert_eq!(rejects.len(), 1);
    assert_eq!(told(&follow)[1].1, ["b", "c"], "the good ones are followed");
    // The last good one stays; another stream asks for it again.
    let versions = HashMap::from([("a", ""), ("b", "2"), ("c", "2")]);
    let known = inbox.versions(CLUSTER);
    assert_eq!(
        known.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<HashMap<_, _>>(),
        versions
    );

    stream.receive(delta_response(SNAPSHOT_MARK, vec![("snapshot", "2", mark(2))]), &mut inbox);
    let linked = ready(&mut inbox);
    assert!(!linked.clean, "revision 2 does not count as accepted");
    assert_eq!(inbox.rejections()[0].revision, Some(Revision(2)));

    stream.receive(delta_response(CLUSTER, vec![("a", "3", cluster("a"))]), &mut inbox);
    stream.receive(delta_response(SNAPSHOT_MARK, vec![("snapshot", "3", mark(3))]), &mut inbox);
    assert!(ready(&mut inbox).clean);
    assert_eq!(inbox.rejections(), []);
}

#[test]
fn nothing_is_activated_before_the_mark_and_everything_with_it() {
    let (mut stream, mut inbox) = running();
    for response in [
        delta_response(CLUSTER, vec![("b", "1", cluster("b"))]),
        delta_response(ENDPOINT, vec![("b", "1", assignment("b", 9101))]),
        delta_response(ROUTE, vec![("outbound", "2", routes("b"))]),
        DeltaDiscoveryResponse {
            removed_resources: vec!["a".to_owned()],
            ..delta_response(CLUSTER, Vec::new())
        },
    ] {
        let (_, rejects) = stream.receive(response, &mut inbox);
        assert_eq!(rejects, []);
        assert!(matches!(inbox.link(), Linking::Idle));
    }
    stream.receive(delta_response(SNAPSHOT_MARK, vec![("snapshot", "2", mark(2))]), &mut inbox);
    let snapshot = ready(&mut inbox).snapshot;
    assert!(snapshot.clusters.index_of("b").is_some());
    assert!(snapshot.clusters.index_of("a").is_none());
    assert!(matches!(inbox.link(), Linking::Idle));
}

#[test]
fn missing_references_are_waited_for_not_refused() {
    let (mut stream, mut inbox) = running();
    for response in [
        delta_response(ROUTE, vec![("outbound", "2", routes("b"))]),
        delta_response(SNAPSHOT_MARK, vec![("snapshot", "2", mark(2))]),
    ] {
        let (follow, _) = stream.receive(response, &mut inbox);
        assert!(follow[0].error_detail.is_none());
    }
    assert!(matches!(inbox.link(), Linking::Waiting(missing) if missing == ["Cluster b"]));
    stream.receive(delta_response(CLUSTER, vec![("b", "1", cluster("b"))]), &mut inbox);
    assert!(
        matches!(inbox.link(), Linking::Waiting(missing) if missing == ["ClusterLoadAssignment b"])
    );
    stream.receive(delta_response(ENDPOINT, vec![("b", "1", assignment("b", 1))]), &mut inbox);
    assert_eq!(ready(&mut inbox).snapshot.revision, Some(Revision(2)));
}

#[test]
fn a_refused_cluster_holds_its_routes_but_not_the_endpoints_of_others() {
    let (mut stream, mut inbox) = running();
    stream.receive(delta_response(CLUSTER, vec![("b", "1", tls_cluster("b"))]), &mut inbox);
    stream.receive(delta_response(ENDPOINT, vec![("a", "2", assignment("a", 9009))]), &mut inbox);
    stream.receive(delta_response(ROUTE, vec![("outbound", "2", routes("b"))]), &mut inbox);
    stream.receive(delta_response(SNAPSHOT_MARK, vec![("snapshot", "2", mark(2))]), &mut inbox);
    let linked = ready(&mut inbox);
    assert_eq!((linked.clean, linked.held_by), (false, vec!["Cluster b".to_owned()]));
    assert_eq!(linked.snapshot.revision, Some(Revision(1)), "these are still the routes of 1");
    let a = linked.snapshot.clusters.index_of("a").unwrap();
    assert_eq!(linked.snapshot.clusters.get(a).unwrap().endpoints[0].address.port(), 9009);
    assert!(matches!(inbox.link(), Linking::Waiting(_)), "once");
}

#[test]
fn a_new_stream_tells_the_versions_that_are_here() {
    let (_, inbox) = running();
    let (_, first) = open(&inbox);
    let versions: HashMap<&str, &HashMap<String, String>> =
        first.iter().map(|it| (it.type_url.as_str(), &it.initial_resource_versions)).collect();
    assert_eq!(versions.len(), 5);
    for (type_url, name) in
        [(CLUSTER, "a"), (ENDPOINT, "a"), (ROUTE, "outbound"), (SNAPSHOT_MARK, "snapshot")]
    {
        assert_eq!(versions[type_url].get(name).map(String::as_str), Some("1"), "{type_url}");
    }
}

#[test]
fn what_was_saved_serves_and_tells_its_versions() {
    let (_, inbox) = running();
    let saved = inbox.stored().into_iter().flat_map(|(type_url, of_type)| {
        of_type
            .into_iter()
            .map(move |(name, stored)| (type_url.to_owned(), name.to_string(), stored))
    });
    let mut restored = Inbox::default();
    restored.restore(saved.collect());
    let snapshot = restored.link_restored().unwrap();
    assert_eq!(snapshot.revision, Some(Revision(1)));
    assert_eq!(restored.versions(ENDPOINT), inbox.versions(ENDPOINT));
    assert!(matches!(restored.link(), Linking::Idle));
}

#[test]
fn without_marks_whatever_links_is_activated() {
    let mut inbox = Inbox::default();
    let (mut stream, _) = open(&inbox);
    for response in [
        delta_response(CLUSTER, vec![("a", "1", cluster("a"))]),
        delta_response(ENDPOINT, vec![("a", "1", assignment("a", 9001))]),
        delta_response(LISTENER, vec![("outbound", "1", listener())]),
        delta_response(ROUTE, vec![("outbound", "1", routes("a"))]),
    ] {
        stream.receive(response, &mut inbox);
    }
    assert!(matches!(inbox.link(), Linking::Unmarked));
    inbox.expect_no_marks();
    assert_eq!(ready(&mut inbox).snapshot.revision, None);
    stream.receive(delta_response(ENDPOINT, vec![("a", "2", assignment("a", 2))]), &mut inbox);
    ready(&mut inbox);
}

#[test]
fn twice_one_name_and_types_not_asked_for_are_refused() {
    let (mut stream, mut inbox) = running();
    let twice = vec![("b", "1", cluster("b")), ("b", "2", cluster("b"))];
    let (follow, _) = stream.receive(delta_response(CLUSTER, twice), &mut inbox);
    let message = &follow[0].error_detail.as_ref().unwrap().message;
    assert_eq!(message, "Cluster b: comes twice in one response");
    let (follow, _) = stream.receive(delta_response("type.googleapis.com/x.Y", vec![]), &mut inbox);
    assert!(follow[0].error_detail.is_some());
}

fn sotw_response(type_url: &str, version: &str, resources: Vec<Any>) -> DiscoveryResponse {
    DiscoveryResponse {
        type_url: type_url.to_owned(),
        version_info: version.to_owned(),
        nonce: format!("n{version}"),
        resources,
        ..Default::default()
    }
}

fn said(request: &DiscoveryRequest) -> (&str, &str, &str, Vec<&str>, bool) {
    (
        &request.type_url,
        &request.version_info,
        &request.response_nonce,
        request.resource_names.iter().map(String::as_str).collect(),
        request.error_detail.is_some(),
    )
}

#[test]
fn state_of_the_world_keeps_its_version_when_it_refuses_and_drops_what_is_absent() {
    let mut inbox = Inbox::default();
    let (mut stream, first) = SotwStream::open(Node::default(), &inbox, true);
    assert_eq!(
        first.iter().map(|it| it.type_url.as_str()).collect::<Vec<_>>(),
        [CLUSTER, LISTENER, SNAPSHOT_MARK]
    );
    let all = vec![cluster("a"), cluster("b")];
    let (follow, _) = stream.receive(sotw_response(CLUSTER, "1", all), &mut inbox);
    assert_eq!(said(&follow[0]), (CLUSTER, "1", "n1", vec![], false));
    assert_eq!(said(&follow[1]), (ENDPOINT, "", "", vec!["a", "b"], false));

    let worse = vec![cluster("a"), tls_cluster("b")];
    let (follow, _) = stream.receive(sotw_response(CLUSTER, "2", worse), &mut inbox);
    assert_eq!(said(&follow[0]), (CLUSTER, "1", "n2", vec![], true));
    assert_eq!(follow.len(), 1, "b stays as it was");

    let (follow, _) = stream.receive(sotw_response(CLUSTER, "3", vec![cluster("a")]), &mut inbox);
    assert_eq!(said(&follow[0]), (CLUSTER, "3", "n3", vec![], false));
    assert_eq!(said(&follow[1]), (ENDPOINT, "", "", vec!["a"], false));
    assert_eq!(inbox.rejections(), [], "what is gone is not refused any more");

    let one = sotw_response(ENDPOINT, "1", vec![assignment("a", 9001)]);
    stream.receive(one, &mut inbox);
    let none = sotw_response(ENDPOINT, "2", Vec::new());
    stream.receive(none, &mut inbox);
    assert!(inbox.names(ENDPOINT).contains("a"), "absence means nothing here");
}
