//! Our own control plane, which takes `*` for every type and sends virtual hosts apart; and those of
//! other make that send them apart.

use envoy_types::pb::envoy::config::core::v3::ControlPlane;
use envoy_types::pb::envoy::config::route::v3::VirtualHost as PbVirtualHost;
use segue_shared::extension::{pack, unpack};
use segue_shared::xds_names::type_urls::VIRTUAL_HOST;

use super::*;
use crate::xds::sample::{vhds, virtual_host};

fn segue() -> ControlPlane {
    ControlPlane { identifier: "segue".to_owned() }
}

fn ours(type_url: &str, resources: Vec<(&str, &str, Any)>) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse { control_plane: Some(segue()), ..delta_response(type_url, resources) }
}

fn removal(type_url: &str, names: &[&str]) -> DeltaDiscoveryResponse {
    let removed_resources = names.iter().map(|name| (*name).to_owned()).collect();
    DeltaDiscoveryResponse { removed_resources, ..ours(type_url, Vec::new()) }
}

/// A sidecar that runs on revision 1: chat leads to a.
fn running_on_ours() -> (DeltaStream, Inbox) {
    let mut inbox = Inbox::default();
    let (mut stream, _) = open(&inbox);
    for response in [
        ours(CLUSTER, vec![("a", "1", cluster("a")), ("b", "1", cluster("b"))]),
        ours(ENDPOINT, vec![("a", "1", assignment("a", 1)), ("b", "1", assignment("b", 2))]),
        ours(LISTENER, vec![("outbound", "1", listener())]),
        ours(ROUTE, vec![("outbound", "1", vhds())]),
        ours(VIRTUAL_HOST, vec![("outbound/default/chat", "1", virtual_host("chat", "a"))]),
        ours(SNAPSHOT_MARK, vec![("snapshot", "1", mark(1))]),
    ] {
        let (_, rejects) = stream.receive(response, &mut inbox);
        assert_eq!(rejects, []);
    }
    let snapshot = ready(&mut inbox).snapshot;
    assert!(snapshot.routes.virtual_host("chat").is_some());
    (stream, inbox)
}

fn host(name: &str, version: &str, any: Any) -> DeltaDiscoveryResponse {
    ours(VIRTUAL_HOST, vec![(&format!("outbound/default/{name}"), version, any)])
}

fn marked(stream: &mut DeltaStream, inbox: &mut Inbox, revision: u64) -> Linked {
    let version = revision.to_string();
    let response = ours(SNAPSHOT_MARK, vec![("snapshot", &version, mark(revision))]);
    stream.receive(response, inbox);
    ready(inbox)
}

#[test]
fn whoever_names_itself_segue_is_asked_for_all() {
    let mut inbox = Inbox::default();
    let (mut stream, first) = open(&inbox);
    assert_eq!(
        told(&first).iter().map(|it| it.0).collect::<Vec<_>>(),
        [CLUSTER, LISTENER, SNAPSHOT_MARK]
    );
    let none = Vec::new;
    let response = ours(CLUSTER, vec![("a", "1", cluster("a"))]);
    let (follow, _) = stream.receive(response, &mut inbox);
    assert_eq!(
        told(&follow),
        [
            (CLUSTER, none(), none(), false),
            (ENDPOINT, vec!["*"], none(), false),
            (VIRTUAL_HOST, vec!["*"], none(), false),
        ]
    );
    let response = ours(CLUSTER, vec![("b", "1", cluster("b"))]);
    let (follow, _) = stream.receive(response, &mut inbox);
    assert_eq!(told(&follow), [(CLUSTER, none(), none(), false)], "nothing more to ask for");
}

#[test]
fn a_virtual_host_changes_alone() {
    let (mut stream, mut inbox) = running_on_ours();
    let (_, rejects) = stream.receive(host("chat", "2", virtual_host("chat", "b")), &mut inbox);
    assert_eq!(rejects, []);
    assert!(matches!(inbox.link(), Linking::Idle), "before the mark");
    let linked = marked(&mut stream, &mut inbox, 2);
    assert!(linked.clean);
    assert!(linked.snapshot.clusters.routed_by_name("b").is_some());

    stream.receive(removal(VIRTUAL_HOST, &["outbound/default/chat"]), &mut inbox);
    let linked = marked(&mut stream, &mut inbox, 3);
    assert!(linked.snapshot.routes.virtual_host("chat").is_none());
    assert!(inbox.names(VIRTUAL_HOST).is_empty());
}

#[test]
fn a_bad_virtual_host_is_refused_alone_and_its_last_good_one_stays() {
    let (mut stream, mut inbox) = running_on_ours();
    let response = ours(
        VIRTUAL_HOST,
        vec![
            ("outbound/default/chat", "2", virtual_host("chat", "")),
            ("outbound/default/shop", "2", virtual_host("shop", "b")),
        ],
    );
    let (follow, rejects) = stream.receive(response, &mut inbox);
    assert_eq!(
        follow[0].error_detail.as_ref().unwrap().message,
        "VirtualHost outbound/default/chat: routes[0].route.cluster: must be set"
    );
    assert_eq!(rejects.len(), 1);
    let linked = marked(&mut stream, &mut inbox, 2);
    assert!(!linked.clean);
    assert!(linked.snapshot.routes.virtual_host("chat").is_some());
    assert!(linked.snapshot.routes.virtual_host("shop").is_some());
}

#[test]
fn a_refused_cluster_holds_only_the_virtual_hosts_that_name_it() {
    let (mut stream, mut inbox) = running_on_ours();
    stream.receive(ours(CLUSTER, vec![("bad", "1", tls_cluster("bad"))]), &mut inbox);
    stream.receive(host("chat", "2", virtual_host("chat", "bad")), &mut inbox);
    stream.receive(host("shop", "1", virtual_host("shop", "b")), &mut inbox);
    let linked = marked(&mut stream, &mut inbox, 2);
    assert_eq!(linked.held_by, ["Cluster bad"]);
    assert!(linked.snapshot.routes.virtual_host("shop").is_some());
    assert!(linked.snapshot.clusters.routed_by_name("a").is_some());
}

#[test]
fn a_domain_that_becomes_free_goes_to_who_was_refused_for_it() {
    let (mut stream, mut inbox) = running_on_ours();
    let mut host: PbVirtualHost =
        unpack(&virtual_host("chat", "b"), "envoy.config.route.v3.VirtualHost").unwrap();
    host.name = "shop".to_owned();
    let moved = ours(VIRTUAL_HOST, vec![("outbound/shop", "1", pack(&host))]);
    let (_, rejects) = stream.receive(moved, &mut inbox);
    assert_eq!(
        rejects[0].to_string(),
        "VirtualHost outbound/shop: domains[0]: \"chat\" belongs to VirtualHost \
         outbound/default/chat already"
    );
    let (follow, rejects) =
        stream.receive(removal(VIRTUAL_HOST, &["outbound/default/chat"]), &mut inbox);
    assert_eq!(rejects, []);
    assert!(follow[0].error_detail.is_none());
    let linked = marked(&mut stream, &mut inbox, 2);
    assert!(linked.clean, "{:?}", inbox.rejections());
    assert!(linked.snapshot.clusters.routed_by_name("b").is_some());
}

#[test]
fn another_replica_is_told_all_versions_under_the_wildcard() {
    let (_, inbox) = running_on_ours();
    let (_, first) = open(&inbox);
    for (type_url, count) in [(ENDPOINT, 2), (VIRTUAL_HOST, 1)] {
        let request = first.iter().find(|it| it.type_url == type_url).unwrap();
        assert_eq!(request.resource_names_subscribe, ["*"]);
        assert_eq!(request.initial_resource_versions.len(), count, "{type_url}");
    }
}

#[test]
fn a_control_plane_of_other_make_after_ours_is_asked_by_name_and_needs_no_marks() {
    let (_, mut inbox) = running_on_ours();
    let (mut stream, _) = open(&inbox);
    let (follow, _) =
        stream.receive(delta_response(CLUSTER, vec![("a", "9", cluster("a"))]), &mut inbox);
    let none = Vec::new;
    assert_eq!(
        told(&follow),
        [
            (CLUSTER, none(), none(), false),
            (ENDPOINT, vec!["a", "b"], vec!["*"], false),
            (VIRTUAL_HOST, vec!["outbound"], vec!["*"], false),
        ]
    );
    assert_eq!(inbox.marks(), Marks::Unknown);
    // Its routes are of another shape; what is not named any more goes.
    stream.receive(delta_response(ROUTE, vec![("outbound", "9", routes("a"))]), &mut inbox);
    assert!(inbox.names(VIRTUAL_HOST).is_empty());
    assert!(matches!(inbox.link(), Linking::Unmarked));
    inbox.expect_no_marks();
    assert_eq!(ready(&mut inbox).snapshot.revision, None);

    // And back.
    let (mut stream, first) = open(&inbox);
    assert_eq!(first.iter().filter(|it| it.resource_names_subscribe == ["*"]).count(), 0);
    let (follow, _) = stream.receive(ours(CLUSTER, Vec::new()), &mut inbox);
    assert_eq!(told(&follow)[1], (ENDPOINT, vec!["*"], vec!["a", "b"], false));
    stream.receive(ours(ENDPOINT, vec![("a", "7", assignment("a", 7))]), &mut inbox);
    assert_eq!(marked(&mut stream, &mut inbox, 7).snapshot.revision, Some(Revision(7)));
}

#[test]
fn others_are_asked_for_virtual_hosts_by_the_name_of_the_configuration() {
    let mut inbox = Inbox::default();
    let (mut stream, _) = open(&inbox);
    for response in [
        delta_response(CLUSTER, vec![("a", "1", cluster("a"))]),
        delta_response(ENDPOINT, vec![("a", "1", assignment("a", 9001))]),
        delta_response(LISTENER, vec![("outbound", "1", listener())]),
    ] {
        stream.receive(response, &mut inbox);
    }
    let (follow, _) =
        stream.receive(delta_response(ROUTE, vec![("outbound", "1", vhds())]), &mut inbox);
    assert_eq!(told(&follow)[1], (VIRTUAL_HOST, vec!["outbound"], Vec::new(), false));
    inbox.expect_no_marks();
    assert!(matches!(inbox.link(), Linking::Waiting(it) if it == ["VirtualHost outbound/*"]));
    let hosts = vec![
        ("outbound/default/chat", "1", virtual_host("chat", "a")),
        ("elsewhere/default/chat", "1", virtual_host("chat", "a")),
    ];
    stream.receive(delta_response(VIRTUAL_HOST, hosts), &mut inbox);
    assert!(ready(&mut inbox).snapshot.routes.virtual_host("chat").is_some());
    assert_eq!(inbox.names(VIRTUAL_HOST).len(), 1, "what was not asked for is not kept");
}

#[test]
fn where_nobody_answers_all_is_asked_for_by_name() {
    let (_, before) = running_on_ours();
    let saved = before.stored().into_iter().flat_map(|(type_url, of_type)| {
        of_type
            .into_iter()
            .map(move |(name, stored)| (type_url.to_owned(), name.to_string(), stored))
    });
    let mut inbox = Inbox::default();
    inbox.restore(saved.collect());
    let snapshot = inbox.link_restored().unwrap();
    assert!(snapshot.routes.virtual_host("chat").is_some());
    let (mut stream, first) = open(&inbox);
    let asked: Vec<&str> = first.iter().map(|it| it.type_url.as_str()).collect();
    assert_eq!(asked, [CLUSTER, LISTENER, ROUTE, SNAPSHOT_MARK]);
    let late = stream.unanswered(&mut inbox);
    assert_eq!(
        told(&late),
        [
            (ENDPOINT, vec!["a", "b"], Vec::new(), false),
            (VIRTUAL_HOST, vec!["outbound"], Vec::new(), false),
        ]
    );
    assert_eq!(late[1].initial_resource_versions.len(), 1);
    assert!(stream.unanswered(&mut inbox).is_empty());
}

#[test]
fn state_of_the_world_tells_virtual_hosts_as_a_whole() {
    let mut inbox = Inbox::default();
    inbox.imply_removal(true);
    let (mut stream, _) = SotwStream::open(Node::default(), &inbox, true);
    let say = |type_url: &str, version: &str, resources: Vec<Any>| DiscoveryResponse {
        control_plane: Some(segue()),
        ..sotw_response(type_url, version, resources)
    };
    let clusters = vec![cluster("a"), cluster("b")];
    let (follow, _) = stream.receive(say(CLUSTER, "1", clusters), &mut inbox);
    assert_eq!(said(&follow[1]), (ENDPOINT, "", "", vec!["*"], false));
    assert_eq!(said(&follow[2]), (VIRTUAL_HOST, "", "", vec!["*"], false));
    let endpoints = vec![assignment("a", 1), assignment("b", 2)];
    stream.receive(say(ENDPOINT, "1", endpoints), &mut inbox);
    stream.receive(say(LISTENER, "1", vec![listener()]), &mut inbox);
    stream.receive(say(ROUTE, "1", vec![vhds()]), &mut inbox);
    let hosts = vec![virtual_host("chat", "a"), virtual_host("shop", "b")];
    stream.receive(say(VIRTUAL_HOST, "1", hosts), &mut inbox);
    stream.receive(say(SNAPSHOT_MARK, "1", vec![mark(1)]), &mut inbox);
    assert!(ready(&mut inbox).snapshot.routes.virtual_host("shop").is_some());

    let (follow, _) =
        stream.receive(say(VIRTUAL_HOST, "2", vec![virtual_host("chat", "b")]), &mut inbox);
    assert_eq!(said(&follow[0]), (VIRTUAL_HOST, "2", "n2", vec!["*"], false));
    stream.receive(say(CLUSTER, "2", vec![cluster("b")]), &mut inbox);
    assert_eq!(inbox.names(ENDPOINT).len(), 1, "endpoints go with their cluster");
    stream.receive(say(SNAPSHOT_MARK, "2", vec![mark(2)]), &mut inbox);
    let snapshot = ready(&mut inbox).snapshot;
    assert!(snapshot.routes.virtual_host("chat").is_some());
    assert!(snapshot.routes.virtual_host("shop").is_none());
}
