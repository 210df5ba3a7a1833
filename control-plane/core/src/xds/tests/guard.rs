//! A store that was never written to takes nothing from anybody.

use segue_shared::ids::Revision;
use segue_shared::xds_names::type_urls::{CLUSTER, LISTENER, ROUTE, SNAPSHOT_MARK};

use super::world::{accept, ack, again, ask, holds, said, snapshot, want};
use crate::xds::{Client, Delta, Session, StateOfTheWorld};

const EMPTY: [(&str, &str, &str); 3] =
    [(LISTENER, "l", "0"), (ROUTE, "r", "empty"), (SNAPSHOT_MARK, "snapshot", "0")];

#[test]
fn what_a_client_brought_along_is_neither_taken_nor_replaced() {
    let mut session = Session::<Delta>::new(snapshot(0, &EMPTY), Client::default());
    // It had no clusters, so that only later requests tell that it has something.
    session.receive(want(CLUSTER, &["*"], &[])).unwrap();
    let nothing = session.respond().unwrap();
    assert_eq!(said(&nothing), "");
    session.receive(ack(&nothing)).unwrap();
    session.receive(again(ROUTE, &["*"], &[("r", "1"), ("other", "1")])).unwrap();
    session.receive(again(LISTENER, &["*"], &[("l", "1")])).unwrap();
    session.receive(want(SNAPSHOT_MARK, &["*"], &[])).unwrap();
    assert_eq!(session.respond(), None);
    assert!(!session.is_waiting(), "there is nothing to give up");
    assert_eq!(session.accepted(), Revision::NONE);

    session.offer(snapshot(1, &[(LISTENER, "l", "1"), (ROUTE, "r", "2")]));
    let mut all = Vec::new();
    while let Some(response) = session.respond() {
        all.push(said(&response));
        session.receive(ack(&response)).unwrap();
    }
    assert_eq!(all, ["", "+r=2 -other", ""], "every first request for all is answered");
    assert_eq!(session.accepted(), Revision(1));
}

#[test]
fn a_state_of_the_world_client_too_keeps_what_it_has() {
    let mut session = Session::<StateOfTheWorld>::new(snapshot(0, &[]), Client::default());
    let mut request = ask(CLUSTER, &[]);
    request.version_info = "from before".to_owned();
    session.receive(request).unwrap();
    assert_eq!(session.respond(), None, "absence would be deletion");
    session.offer(snapshot(3, &[(CLUSTER, "a", "1")]));
    let response = session.respond().unwrap();
    assert_eq!(holds(&response), "a=1");
    session.receive(accept(&response, &[])).unwrap();
}

#[test]
fn a_client_that_has_nothing_gets_the_empty_configuration() {
    let mut session = Session::<Delta>::new(snapshot(0, &EMPTY), Client::default());
    for type_url in [CLUSTER, LISTENER, ROUTE, SNAPSHOT_MARK] {
        session.receive(want(type_url, &["*"], &[])).unwrap();
    }
    let mut all = Vec::new();
    while let Some(response) = session.respond() {
        all.push(said(&response));
        session.receive(ack(&response)).unwrap();
    }
    assert_eq!(all, ["", "+l=0", "+r=empty", "+snapshot=0"]);
}

#[test]
fn an_empty_store_never_follows_one_that_was_written_to() {
    let mut session = Session::<Delta>::new(snapshot(7, &[(CLUSTER, "a", "1")]), Client::default());
    session.receive(want(CLUSTER, &[], &[])).unwrap();
    let response = session.respond().unwrap();
    session.receive(ack(&response)).unwrap();
    session.offer(snapshot(0, &[]));
    session.stop_waiting();
    assert_eq!(session.respond(), None);
    assert_eq!(session.target_revision(), Revision(7));
}
