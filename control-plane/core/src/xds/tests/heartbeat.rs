//! Heartbeats of state-of-the-world streams, read as Envoy reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::{
    DiscoveryRequest, DiscoveryResponse, Resource,
};
use prost::Message as _;
use segue_shared::xds_names::type_urls::{CLUSTER, ENDPOINT, LISTENER, ROUTE};

use super::world::{accept, ask, decoded, fault, snapshot, text};
use crate::snapshot::XdsSnapshot;
use crate::xds::{Client, Response, Session, StateOfTheWorld};

const WRAPPED: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// What an Envoy has of one type.
#[derive(Debug, Default)]
struct Held {
    /// The version of the last response that it accepted.
    version: String,
    bodies: BTreeMap<String, String>,
    /// What lives on since somebody looked.
    prolonged: BTreeSet<String>,
}

/// An Envoy that asked for resources with a time to live.
struct Envoy {
    session: Session<StateOfTheWorld>,
    types: BTreeMap<&'static str, (Vec<&'static str>, Held)>,
}

impl Envoy {
    fn of(world: Arc<XdsSnapshot>) -> Self {
        let client = Client {
            ttl: Some(Duration::from_secs(30)),
            resource_in_sotw: true,
            ..Client::default()
        };
        Self { session: Session::new(world, client), types: BTreeMap::new() }
    }

    fn asks(&mut self, type_url: &'static str, names: &[&'static str]) {
        self.types.insert(type_url, (names.to_vec(), Held::default()));
        self.session.receive(ask(type_url, names)).unwrap();
        self.settle();
    }

    /// Takes all that there is to say.
    fn settle(&mut self) {
        while let Some(response) = self.session.respond() {
            self.hears(&response);
        }
    }

    fn hears(&mut self, response: &Response) {
        let read = self.takes(response);
        self.session.receive(read).unwrap();
    }

    /// Reads a response, and gives the answer to it.
    fn takes(&mut self, response: &Response) -> DiscoveryRequest {
        let read: DiscoveryResponse = decoded::<StateOfTheWorld, _>(response);
        let (names, held) = self.types.get_mut(read.type_url.as_str()).unwrap();
        let whole = [CLUSTER, LISTENER].contains(&&*read.type_url);
        let mut bodies = BTreeMap::new();
        for any in read.resources {
            assert_eq!(any.type_url, WRAPPED, "only those have a time to live");
            let resource = Resource::decode(&*any.value).unwrap();
            // Its own version is not looked at.
            if resource.resource.is_none() && read.version_info == held.version {
                continue;
            }
            assert!(resource.ttl.is_some());
            held.prolonged.insert(resource.name.clone());
            let body = resource.resource.as_ref().map_or_else(String::new, text);
            bodies.insert(resource.name, body);
        }
        if whole {
            held.bodies.clear();
        }
        held.bodies.extend(bodies);
        held.version = read.version_info;
        accept(response, names)
    }

    /// What lives on of a type after a heartbeat, and what it then is.
    fn beat(&mut self, type_url: &'static str) -> (Vec<String>, Vec<String>) {
        for (_, held) in self.types.values_mut() {
            held.prolonged.clear();
        }
        for beat in self.session.heartbeat() {
            self.hears(&beat);
        }
        let held = &self.types[type_url].1;
        (held.prolonged.iter().cloned().collect(), held.bodies.values().cloned().collect())
    }
}

#[test]
fn all_that_an_envoy_has_lives_on_whatever_changed_last() {
    let mut envoy = Envoy::of(snapshot(
        1,
        &[(CLUSTER, "a", "1"), (CLUSTER, "b", "1"), (ENDPOINT, "a", "1"), (ENDPOINT, "b", "1")],
    ));
    envoy.asks(CLUSTER, &[]);
    envoy.asks(ENDPOINT, &["a", "b"]);
    assert_eq!(envoy.beat(ENDPOINT).0, ["a", "b"]);
    // Of endpoints a response holds what changed, so its version is that of a part.
    envoy.session.offer(snapshot(
        2,
        &[(CLUSTER, "a", "1"), (CLUSTER, "b", "1"), (ENDPOINT, "a", "2"), (ENDPOINT, "b", "1")],
    ));
    envoy.settle();
    let told = |names: [&str; 2], bodies: [&str; 2]| {
        (names.map(str::to_owned).to_vec(), bodies.map(str::to_owned).to_vec())
    };
    assert_eq!(envoy.beat(ENDPOINT), told(["a", "b"], ["a=2", "b=1"]));
    assert_eq!(envoy.beat(ENDPOINT), told(["a", "b"], ["a=2", "b=1"]), "and once more");
    assert_eq!(envoy.beat(CLUSTER), told(["a", "b"], ["a=1", "b=1"]), "none was taken away");
}

/// In the middle of a pass an Envoy has some of both snapshots, and loses nothing of either.
#[test]
fn a_heartbeat_between_two_snapshots_takes_nothing_away() {
    let mut envoy = Envoy::of(snapshot(
        1,
        &[(CLUSTER, "old", "1"), (CLUSTER, "a", "1"), (LISTENER, "l", "1"), (ROUTE, "r", "old")],
    ));
    envoy.asks(CLUSTER, &[]);
    envoy.asks(LISTENER, &[]);
    envoy.asks(ROUTE, &["r"]);
    envoy.session.offer(snapshot(
        2,
        &[(CLUSTER, "new", "1"), (CLUSTER, "a", "2"), (LISTENER, "l", "2"), (ROUTE, "r", "new")],
    ));
    let clusters = envoy.session.respond().unwrap();
    assert_eq!(&*clusters.type_url, CLUSTER);
    envoy.hears(&clusters);
    let listeners = envoy.session.respond().unwrap();
    // The listener is on its way: it is not sent once more.
    let (prolonged, bodies) = envoy.beat(CLUSTER);
    assert_eq!(prolonged, ["a", "new", "old"]);
    assert_eq!(bodies, ["a=2", "new=1", "old=1"]);
    assert_eq!(envoy.beat(ROUTE).1, ["r=old"]);
    envoy.hears(&listeners);
    envoy.settle();
    assert_eq!(envoy.beat(CLUSTER).1, ["a=2", "new=1"]);
    assert_eq!(envoy.beat(LISTENER).1, ["l=2"]);
}

/// What it refused stays in a response that holds everything: without it Envoy would take away what
/// it runs on in its place. Of other types it is not repeated.
#[test]
fn what_was_refused_is_not_taken_away_by_a_heartbeat() {
    let mut session = Envoy::of(snapshot(1, &[(CLUSTER, "a", "1"), (ROUTE, "r", "1")])).session;
    let refuse = |session: &mut Session<StateOfTheWorld>, type_url, names: &[&str]| {
        session.receive(ask(type_url, names)).unwrap();
        let response = session.respond().unwrap();
        let error_detail = Some(fault("a: bad, r: bad"));
        session.receive(DiscoveryRequest { error_detail, ..accept(&response, names) }).unwrap();
    };
    refuse(&mut session, CLUSTER, &[]);
    refuse(&mut session, ROUTE, &["r"]);
    let beats = session.heartbeat();
    let told: Vec<&str> = beats.iter().map(|beat| &*beat.type_url).collect();
    assert_eq!(told, [CLUSTER]);
    let again = DiscoveryRequest { error_detail: Some(fault("a: bad")), ..accept(&beats[0], &[]) };
    session.receive(again).unwrap();
    assert_eq!(session.refusals().count(), 2, "it refuses what it refused");
}
