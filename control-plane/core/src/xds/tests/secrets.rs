//! Secrets of one client: they belong to no snapshot, and change in any pass.

use std::sync::Arc;

use segue_shared::xds_names::type_urls::{CLUSTER, SECRET};

use super::world::{accept, ack, ask, holds, nack, said, snapshot, want};
use crate::snapshot::EncodedResource;
use crate::xds::{Client, Delta, Session, StateOfTheWorld};

fn secret(name: &str, version: &str) -> Arc<EncodedResource> {
    Arc::new(EncodedResource::secret(SECRET, name, format!("{name}={version}").as_bytes()))
}

fn taken(session: &Session<Delta>, name: &str) -> Option<String> {
    let taken = session.taken_secret(name)?.value().to_vec();
    Some(String::from_utf8(taken).unwrap())
}

#[test]
fn a_new_secret_comes_at_once_and_counts_when_it_was_taken() {
    let mut session = Session::<Delta>::new(snapshot(1, &[(CLUSTER, "a", "1")]), Client::default());
    session.show_secrets([secret("ROOTCA", "1")]);
    session.receive(want(SECRET, &["ROOTCA"], &[])).unwrap();
    assert!(session.wants_secret("ROOTCA") && !session.wants_secret("default"));
    let first = session.respond().unwrap();
    assert_eq!(said(&first), "+ROOTCA=1");
    assert_eq!(taken(&session, "ROOTCA"), None, "it has not said so");
    session.receive(ack(&first)).unwrap();
    assert_eq!(taken(&session, "ROOTCA").as_deref(), Some("ROOTCA=1"));
    // A pass that waits for the client's answer does not hold it back.
    session.receive(want(CLUSTER, &["*"], &[])).unwrap();
    assert_eq!(said(&session.respond().unwrap()), "+a=1");
    session.show_secrets([secret("ROOTCA", "2")]);
    let second = session.respond().unwrap();
    assert_eq!(said(&second), "+ROOTCA=2");
    session.receive(nack(&second, "ROOTCA: no")).unwrap();
    assert_eq!(taken(&session, "ROOTCA"), None, "it refused the new one");
    session.show_secrets([secret("ROOTCA", "3")]);
    let third = session.respond().unwrap();
    session.receive(ack(&third)).unwrap();
    assert_eq!(taken(&session, "ROOTCA").as_deref(), Some("ROOTCA=3"));
}

#[test]
fn secrets_of_all_and_of_one_stand_beside_each_other() {
    let shared = snapshot(1, &[(SECRET, "sealing", "1")]);
    let mut session = Session::<StateOfTheWorld>::new(shared, Client::default());
    session.show_secrets([secret("ROOTCA", "1"), secret("default", "1")]);
    let names = ["ROOTCA", "sealing"];
    session.receive(ask(SECRET, &names)).unwrap();
    let response = session.respond().unwrap();
    assert_eq!(holds(&response), "ROOTCA=1 sealing=1", "what nobody asked for is nobody's");
    session.receive(accept(&response, &names)).unwrap();
    session.offer(snapshot(2, &[(SECRET, "sealing", "2")]));
    assert!(holds(&session.respond().unwrap()).contains("sealing=2"));
}
