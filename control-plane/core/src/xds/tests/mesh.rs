//! From one snapshot to the next: what waits for what, and what does not.

use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use segue_shared::ids::Revision;
use segue_shared::xds_names::type_urls::{
    CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, SNAPSHOT_MARK, VIRTUAL_HOST,
};

use super::world::{accept, ack, ask, holds, nack, said, snapshot, want};
use crate::snapshot::{EncodedResource, XdsSnapshot};
use crate::xds::{Client, Delta, Session, StateOfTheWorld};

const SIDECAR: [&str; 7] =
    [CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST, SECRET, SNAPSHOT_MARK];

/// A version of a service, and a virtual host that leads to it.
fn mesh(revision: u64, version: &str, host: &str) -> Arc<XdsSnapshot> {
    let mark = revision.to_string();
    let all = [
        (CLUSTER, version, "1"),
        (ENDPOINT, version, "1"),
        (LISTENER, "outbound", "1"),
        (ROUTE, "outbound", "1"),
        (VIRTUAL_HOST, "chat", host),
        (SECRET, version, "1"),
        (SNAPSHOT_MARK, "snapshot", mark.as_str()),
    ];
    snapshot(revision, &all)
}

/// All that is said until the session has nothing to say, each response ACKed.
fn settle(session: &mut Session<Delta>) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(response) = session.respond() {
        all.push(said(&response));
        session.receive(ack(&response)).unwrap();
    }
    all
}

fn sidecar(mesh: Arc<XdsSnapshot>) -> Session<Delta> {
    let mut session = Session::new(mesh, Client::default());
    for type_url in SIDECAR {
        session.receive(want(type_url, &["*"], &[])).unwrap();
    }
    settle(&mut session);
    session
}

#[test]
fn what_is_named_comes_first_and_goes_last() {
    let mut session = sidecar(mesh(1, "v1", "v1"));
    assert_eq!(session.accepted(), Revision(1));
    session.offer(mesh(2, "v2", "v2"));
    let order = [
        "+v2=1",       // secret
        "+v2=1",       // cluster
        "+v2=1",       // endpoints
        "+chat=v2",    // virtual host
        "-v1",         // cluster
        "-v1",         // endpoints
        "-v1",         // secret
        "+snapshot=2", // mark
    ];
    assert_eq!(settle(&mut session), order);
    assert_eq!(session.accepted(), Revision(2));
}

#[test]
fn where_nothing_is_taken_away_the_mark_follows_at_once() {
    let mut session = sidecar(mesh(1, "v1", "v1"));
    session.offer(mesh(2, "v1", "v1 at 95%"));
    let host = session.respond().unwrap();
    assert_eq!(said(&host), "+chat=v1 at 95%");
    let mark = session.respond().unwrap();
    assert_eq!(said(&mark), "+snapshot=2", "without an ACK between them");
    session.receive(ack(&host)).unwrap();
    assert_eq!(session.respond(), None);
    assert_eq!(session.accepted(), Revision(1));
    session.receive(ack(&mark)).unwrap();
    assert_eq!((session.respond(), session.accepted()), (None, Revision(2)));
}

#[test]
fn where_something_is_taken_away_the_mark_waits_for_the_virtual_hosts() {
    let mut session = sidecar(mesh(1, "v1", "v1"));
    session.offer(mesh(2, "v2", "v2"));
    let host = loop {
        let response = session.respond().unwrap();
        if &*response.type_url == VIRTUAL_HOST {
            break response;
        }
        session.receive(ack(&response)).unwrap();
    };
    assert_eq!(session.respond(), None);
    assert!(session.is_waiting());
    session.receive(ack(&host)).unwrap();
    assert_eq!(settle(&mut session), ["-v1", "-v1", "-v1", "+snapshot=2"]);
}

#[test]
fn a_refused_virtual_host_keeps_what_it_may_lead_to_until_it_is_accepted() {
    let mut session = sidecar(mesh(1, "v1", "v1"));
    session.offer(mesh(2, "v2", "bad"));
    while let Some(response) = session.respond() {
        let bad = said(&response) == "+chat=bad";
        let answer = if bad { nack(&response, "chat: bad") } else { ack(&response) };
        session.receive(answer).unwrap();
        assert!(!said(&response).contains("-v1"));
    }
    assert_eq!(session.accepted(), Revision(1));
    session.offer(mesh(3, "v2", "v2"));
    assert_eq!(settle(&mut session), ["+chat=v2", "-v1", "-v1", "-v1", "+snapshot=3"]);
    assert_eq!(session.accepted(), Revision(3));
}

#[test]
fn what_is_kept_for_a_client_that_refuses_for_ever_has_an_end() {
    let clusters = |revision, clusters: usize| {
        let mut world = XdsSnapshot { revision: Revision(revision), ..XdsSnapshot::default() };
        let all = world.resources.entry(CLUSTER).or_default();
        for at in 0..clusters {
            let one = EncodedResource::with_version(CLUSTER, &at.to_string(), "1", b"");
            all.insert(Arc::clone(one.name()), Arc::new(one));
        }
        let route = EncodedResource::with_version(ROUTE, "r", &revision.to_string(), b"r");
        world.resources.entry(ROUTE).or_default().insert("r".into(), Arc::new(route));
        Arc::new(world)
    };
    let mut session: Session<Delta> = Session::new(clusters(1, 65_600), Client::default());
    for type_url in [CLUSTER, LISTENER, ROUTE] {
        session.receive(want(type_url, &["*"], &[])).unwrap();
    }
    settle(&mut session);
    let mut refuse = |revision, left| {
        session.offer(clusters(revision, left));
        let mut gone = 0;
        while let Some(response) = session.respond() {
            gone += response.removed.len();
            let is_route = &*response.type_url == ROUTE;
            let answer = if is_route { nack(&response, "r: bad") } else { ack(&response) };
            session.receive(answer).unwrap();
        }
        gone
    };
    assert_eq!(refuse(2, 100), 0, "65,500 are kept");
    assert_eq!(refuse(3, 50), 65_550, "and then it is too much");
}

#[test]
fn a_grpc_client_learns_from_name_to_name_and_never_waits_for_what_it_did_not_ask() {
    let world = |revision, clusters: &[&'static str], route| {
        let mut all = vec![(LISTENER, "chat", "1"), (ROUTE, "grpc/default/chat", route)];
        for &cluster in clusters {
            all.extend([(CLUSTER, cluster, "1"), (ENDPOINT, cluster, "1")]);
        }
        snapshot(revision, &all)
    };
    let mut session: Session<StateOfTheWorld> =
        Session::new(world(1, &["v1", "other"], "v1"), Client::default());
    let tell = |session: &mut Session<StateOfTheWorld>, type_url, names: &[&str]| {
        session.receive(ask(type_url, names)).unwrap();
        let response = session.respond().unwrap();
        session.receive(accept(&response, names)).unwrap();
        assert_eq!(session.respond(), None);
        (holds(&response), response)
    };
    assert_eq!(tell(&mut session, LISTENER, &["chat"]).0, "chat=1");
    assert_eq!(tell(&mut session, ROUTE, &["grpc/default/chat"]).0, "grpc/default/chat=v1");
    let (clusters, of_clusters) = tell(&mut session, CLUSTER, &["v1"]);
    assert_eq!(clusters, "v1=1");
    let (endpoints, of_endpoints) = tell(&mut session, ENDPOINT, &["v1"]);
    assert_eq!((endpoints.as_str(), session.accepted()), ("v1=1", Revision(1)));

    session.offer(world(2, &["v2", "other"], "v2"));
    let route = session.respond().unwrap();
    assert_eq!(holds(&route), "grpc/default/chat=v2", "v2 it asks for when it knows of it");
    assert_eq!(session.respond(), None, "v1 it may still need");
    session.receive(accept(&route, &["grpc/default/chat"])).unwrap();
    let gone = session.respond().unwrap();
    assert_eq!((&*gone.type_url, holds(&gone).as_str()), (CLUSTER, ""));
    let mut both = accept(&of_clusters, &["v1", "v2"]);
    both.response_nonce.clone_from(&gone.nonce);
    session.receive(both).unwrap();
    let made = session.respond().unwrap();
    assert_eq!((&*made.type_url, holds(&made).as_str()), (CLUSTER, "v2=1"));
    session.receive(accept(&made, &["v2"])).unwrap();
    session.receive(accept(&of_endpoints, &["v2"])).unwrap();
    let made = session.respond().unwrap();
    assert_eq!((&*made.type_url, holds(&made).as_str()), (ENDPOINT, "v2=1"));
    session.receive(accept(&made, &["v2"])).unwrap();
    assert_eq!((session.respond(), session.accepted()), (None, Revision(2)));
    assert!(!session.is_waiting());
}

#[test]
fn a_state_of_the_world_client_that_connects_again_loses_what_vanished_by_its_absence() {
    let mut session: Session<StateOfTheWorld> =
        Session::new(snapshot(5, &[(CLUSTER, "b", "1")]), Client::default());
    for type_url in [CLUSTER, LISTENER] {
        let mut request = ask(type_url, &[]);
        request.version_info = "with a and b".to_owned();
        session.receive(request).unwrap();
        let response = session.respond().unwrap();
        assert_eq!(holds(&response), if type_url == CLUSTER { "b=1" } else { "" });
        session.receive(accept(&response, &[])).unwrap();
    }
}

#[test]
fn of_virtual_hosts_a_state_of_the_world_client_that_wants_all_gets_all() {
    let world = |revision, hosts: &[(&'static str, &str, &str)]| snapshot(revision, hosts);
    let hosts = [(VIRTUAL_HOST, "a", "1"), (VIRTUAL_HOST, "b", "1")];
    let mut all: Session<StateOfTheWorld> = Session::new(world(1, &hosts), Client::default());
    all.receive(ask(VIRTUAL_HOST, &["*"])).unwrap();
    let response = all.respond().unwrap();
    assert_eq!(holds(&response), "a=1 b=1");
    all.receive(accept(&response, &["*"])).unwrap();
    all.offer(world(2, &hosts[1..]));
    assert_eq!(holds(&all.respond().unwrap()), "b=1", "as nothing else could take one away");

    let mut one: Session<StateOfTheWorld> = Session::new(world(1, &hosts), Client::default());
    one.receive(ask(VIRTUAL_HOST, &["a"])).unwrap();
    let response = one.respond().unwrap();
    one.receive(accept(&response, &["a"])).unwrap();
    one.offer(world(2, &hosts[1..]));
    assert_eq!(one.respond(), None, "by name, absence says nothing");
}

/// An Envoy with routes of its own, or a gRPC client without a call.
fn partial(snapshot: Arc<XdsSnapshot>) -> Session<Delta> {
    Session::new(snapshot, Client { asks_in_part: true, ..Client::default() })
}

#[test]
fn a_client_that_asks_for_a_part_accepts_what_it_was_sent() {
    let clusters = |revision, version| snapshot(revision, &[(CLUSTER, "a", version)]);
    let mut session = partial(clusters(1, "1"));
    session.receive(want(CLUSTER, &["a"], &[])).unwrap();
    let response = session.respond().unwrap();
    assert_eq!(session.accepted(), Revision::NONE);
    session.receive(ack(&response)).unwrap();
    assert_eq!((session.respond(), session.accepted()), (None, Revision(1)));
    session.offer(clusters(2, "1"));
    assert_eq!(session.respond(), None, "what it asked for is the same");
    assert_eq!(session.accepted(), Revision(2));
    session.offer(clusters(3, "2"));
    let response = session.respond().unwrap();
    assert_eq!((session.respond(), session.accepted()), (None, Revision(2)));
    session.receive(ack(&response)).unwrap();
    assert_eq!((session.respond(), session.accepted()), (None, Revision(3)));
}

#[test]
fn a_client_that_refuses_what_it_asks_for_later_has_not_accepted_the_revision() {
    let mut session = partial(snapshot(4, &[(CLUSTER, "a", "1"), (LISTENER, "outbound", "1")]));
    settle_with(&mut session, want(CLUSTER, &[], &[]));
    assert_eq!(session.accepted(), Revision(4));
    session.receive(want(LISTENER, &[], &[])).unwrap();
    let listener = session.respond().unwrap();
    session.receive(nack(&listener, "no")).unwrap();
    assert_eq!((session.respond(), session.accepted()), (None, Revision::NONE));
    session.offer(snapshot(5, &[(CLUSTER, "a", "1"), (LISTENER, "outbound", "2")]));
    settle(&mut session);
    assert_eq!(session.accepted(), Revision(5));
}

fn settle_with(session: &mut Session<Delta>, request: DeltaDiscoveryRequest) {
    session.receive(request).unwrap();
    settle(session);
}
