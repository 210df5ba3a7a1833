use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use segue_shared::ids::Revision;
use segue_shared::xds_names::type_urls::{CLUSTER, ENDPOINT, LISTENER, ROUTE};

use super::world::{accept, ask, fault, holds, snapshot};
use crate::xds::{Client, Session, StateOfTheWorld};

type Sotw = Session<StateOfTheWorld>;

fn session(resources: &[(&'static str, &str, &str)]) -> Sotw {
    Session::new(snapshot(1, resources), Client::default())
}

/// Sends a request and gives what the one response holds, which is ACKed; `None` for silence.
fn tell(session: &mut Sotw, request: DiscoveryRequest) -> Option<String> {
    let names = request.resource_names.clone();
    session.receive(request).unwrap();
    settle(session, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What the next response holds, which is ACKed.
fn settle(session: &mut Sotw, names: &[&str]) -> Option<String> {
    let response = session.respond()?;
    session.receive(accept(&response, names)).unwrap();
    Some(holds(&response))
}

#[test]
fn clusters_come_whole_and_endpoints_as_they_change() {
    let mut session = session(&[
        (CLUSTER, "a", "1"),
        (CLUSTER, "b", "1"),
        (ENDPOINT, "a", "1"),
        (ENDPOINT, "b", "1"),
    ]);
    assert_eq!(tell(&mut session, ask(CLUSTER, &[])).unwrap(), "a=1 b=1");
    assert_eq!(tell(&mut session, ask(ENDPOINT, &["a", "b"])).unwrap(), "a=1 b=1");
    session.offer(snapshot(
        2,
        &[(CLUSTER, "a", "1"), (CLUSTER, "b", "2"), (ENDPOINT, "a", "2"), (ENDPOINT, "b", "1")],
    ));
    assert_eq!(settle(&mut session, &[]).unwrap(), "a=1 b=2", "all clusters");
    assert_eq!(settle(&mut session, &["a", "b"]).unwrap(), "a=2 b=1", "b warms anew");
    assert_eq!(settle(&mut session, &[]), None);
}

#[test]
fn a_wildcard_is_answered_even_with_nothing_and_names_are_watched() {
    assert_eq!(tell(&mut session(&[]), ask(CLUSTER, &[])).unwrap(), "");
    let mut session = session(&[]);
    assert_eq!(tell(&mut session, ask(LISTENER, &["l"])).unwrap(), "", "absence says: no such");
    assert_eq!(tell(&mut session, ask(ROUTE, &["r"])).unwrap(), "", "with an error that says so");
    assert_eq!(tell(&mut session, ask(ENDPOINT, &[])), None, "no wildcard of endpoints");
    session.offer(snapshot(2, &[(LISTENER, "l", "1"), (ROUTE, "r", "1"), (ROUTE, "other", "1")]));
    assert_eq!(settle(&mut session, &["l"]).unwrap(), "l=1");
    assert_eq!(settle(&mut session, &["r"]).unwrap(), "r=1");
}

#[test]
fn after_names_an_empty_list_means_nothing() {
    let mut session = session(&[(CLUSTER, "a", "1")]);
    session.receive(ask(CLUSTER, &["a"])).unwrap();
    let response = session.respond().unwrap();
    session.receive(accept(&response, &[])).unwrap();
    session.offer(snapshot(2, &[(CLUSTER, "a", "2")]));
    assert_eq!(session.respond(), None);
}

#[test]
fn a_new_name_is_answered_though_unchanged() {
    let mut session = session(&[(ENDPOINT, "a", "1"), (ENDPOINT, "b", "1")]);
    session.receive(ask(ENDPOINT, &["a"])).unwrap();
    let response = session.respond().unwrap();
    session.receive(accept(&response, &["a", "b"])).unwrap();
    let response = session.respond().unwrap();
    assert_eq!(holds(&response), "b=1");
    session.receive(accept(&response, &["b"])).unwrap();
    session.receive(accept(&response, &["a", "b"])).unwrap();
    assert_eq!(holds(&session.respond().unwrap()), "a=1", "wanted again after it was dropped");
}

#[test]
fn a_request_with_a_stale_nonce_is_ignored() {
    let mut session = session(&[(ENDPOINT, "a", "1"), (ENDPOINT, "b", "1")]);
    session.receive(ask(ENDPOINT, &["a"])).unwrap();
    let first = session.respond().unwrap();
    session.receive(accept(&first, &["a"])).unwrap();
    session.offer(snapshot(2, &[(ENDPOINT, "a", "2"), (ENDPOINT, "b", "1")]));
    let second = session.respond().unwrap();
    session.receive(accept(&first, &["a", "b"])).unwrap();
    assert!(session.is_waiting());
    assert_eq!(session.respond(), None);
    session.receive(accept(&second, &["a", "b"])).unwrap();
    assert_eq!(holds(&session.respond().unwrap()), "b=1");
}

#[test]
fn a_cluster_goes_only_after_the_route_that_named_it() {
    let before = [(CLUSTER, "v1", "1"), (LISTENER, "l", "1"), (ROUTE, "r", "v1")];
    let mut session = session(&before);
    tell(&mut session, ask(CLUSTER, &[]));
    tell(&mut session, ask(LISTENER, &[]));
    tell(&mut session, ask(ROUTE, &["r"]));
    session.offer(snapshot(2, &[(CLUSTER, "v2", "1"), (LISTENER, "l", "1"), (ROUTE, "r", "v2")]));
    assert_eq!(settle(&mut session, &[]).unwrap(), "v2=1 v1=1");
    assert_eq!(settle(&mut session, &["r"]).unwrap(), "r=v2");
    assert_eq!(session.accepted(), Revision(1));
    assert_eq!(settle(&mut session, &[]).unwrap(), "v2=1");
    assert_eq!(settle(&mut session, &[]), None);
    assert_eq!(session.accepted(), Revision(2));
}

#[test]
fn no_cluster_is_taken_from_a_client_that_refuses_its_new_routes() {
    let world = |revision, version, route| {
        snapshot(revision, &[(CLUSTER, version, "1"), (LISTENER, "l", "1"), (ROUTE, "r", route)])
    };
    let mut session = Sotw::new(world(1, "v1", "to v1"), Client::default());
    tell(&mut session, ask(CLUSTER, &[]));
    tell(&mut session, ask(LISTENER, &[]));
    tell(&mut session, ask(ROUTE, &["r"]));
    session.offer(world(2, "v2", "bad"));
    assert_eq!(settle(&mut session, &[]).unwrap(), "v2=1 v1=1");
    let routes = session.respond().unwrap();
    let refusal = DiscoveryRequest {
        error_detail: Some(fault("r: no such filter")),
        ..accept(&routes, &["r"])
    };
    session.receive(refusal).unwrap();
    assert_eq!(settle(&mut session, &[]), None, "the old routes still lead to v1");
    session.offer(world(3, "v2", "to v2"));
    assert_eq!(settle(&mut session, &["r"]).unwrap(), "r=to v2");
    assert_eq!(settle(&mut session, &[]).unwrap(), "v2=1");
    assert_eq!((settle(&mut session, &[]), session.accepted()), (None, Revision(3)));
}

#[test]
fn a_nack_is_known_by_its_error_and_keeps_the_last_good() {
    let mut session = session(&[(CLUSTER, "a", "bad"), (CLUSTER, "b", "1")]);
    session.receive(ask(CLUSTER, &[])).unwrap();
    let response = session.respond().unwrap();
    let refuse = |response| DiscoveryRequest {
        version_info: String::new(),
        error_detail: Some(fault("Error adding/updating cluster(s) a: bad")),
        ..accept(response, &[])
    };
    session.receive(refuse(&response)).unwrap();
    assert_eq!(session.respond(), None, "not sent again by itself");
    session.offer(snapshot(2, &[(CLUSTER, "a", "bad"), (CLUSTER, "b", "2")]));
    let response = session.respond().unwrap();
    assert_eq!(holds(&response), "a=bad b=2");
    session.receive(refuse(&response)).unwrap();
    let refused: Vec<&str> = session.refusals().map(|refusal| refusal.resource.as_ref()).collect();
    assert_eq!(refused, ["a"]);
    session.offer(snapshot(3, &[(CLUSTER, "a", "1"), (CLUSTER, "b", "2")]));
    settle(&mut session, &[]);
    assert_eq!(session.refusals().count(), 0);
}

#[test]
fn equal_states_have_equal_versions() {
    let all = [(CLUSTER, "a", "1"), (CLUSTER, "b", "1")];
    let version = |revision| {
        let mut session = Sotw::new(snapshot(revision, &all), Client::default());
        session.receive(ask(CLUSTER, &[])).unwrap();
        session.respond().unwrap().version_info
    };
    assert_eq!(version(1), version(7));
}
