//! What a change costs a stream: as much as changed, whatever exists.

use std::cell::Cell;
use std::cmp::Ordering;
use std::sync::Arc;

use imbl::OrdMap;
use segue_shared::ids::Revision;
use segue_shared::xds_names::type_urls::{
    CLUSTER, ENDPOINT, LISTENER, ROUTE, SNAPSHOT_MARK, VIRTUAL_HOST,
};

use super::world::{ack, again, want};
use crate::cost::take_looked_at;
use crate::snapshot::{EncodedResource, XdsSnapshot};
use crate::xds::{Client, Delta, Message, Session};

const SIDECAR: [&str; 6] = [CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST, SNAPSHOT_MARK];

/// Services with one cluster each.
fn mesh(services: usize) -> Arc<XdsSnapshot> {
    let mut mesh = XdsSnapshot { revision: Revision(1), ..XdsSnapshot::default() };
    for service in 0..services {
        for type_url in [CLUSTER, ENDPOINT, VIRTUAL_HOST] {
            put(&mut mesh, type_url, &format!("default/service-{service:05}"), "1");
        }
    }
    put(&mut mesh, LISTENER, "outbound", "1");
    put(&mut mesh, ROUTE, "outbound", "1");
    put(&mut mesh, SNAPSHOT_MARK, "snapshot", "1");
    Arc::new(mesh)
}

fn put(mesh: &mut XdsSnapshot, type_url: &'static str, name: &str, version: &str) {
    let resource = EncodedResource::with_version(type_url, name, version, b"body");
    mesh.resources
        .entry(type_url)
        .or_default()
        .insert(Arc::clone(resource.name()), Arc::new(resource));
}

/// The next revision, where one resource in the middle and the mark differ.
fn changed(mesh: &XdsSnapshot, type_url: &'static str, name: &str) -> Arc<XdsSnapshot> {
    let mut next = mesh.clone();
    next.revision = mesh.revision.next();
    put(&mut next, type_url, name, "2");
    put(&mut next, SNAPSHOT_MARK, "snapshot", "2");
    Arc::new(next)
}

/// Names of all that is said, each response ACKed.
fn settle(session: &mut Session<Delta>) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(response) = session.respond() {
        names.extend(response.resources.iter().map(|one| one.name().to_string()));
        session.receive(ack(&response)).unwrap();
    }
    names
}

/// A sidecar that has everything.
fn sidecar(mesh: &Arc<XdsSnapshot>) -> Session<Delta> {
    let mut session = Session::new(Arc::clone(mesh), Client::default());
    for type_url in SIDECAR {
        session.receive(want(type_url, &["*"], &[])).unwrap();
    }
    settle(&mut session);
    assert_eq!(session.accepted(), mesh.revision);
    session
}

/// How many resources a session looks at for one change, and the names of what it sends.
fn cost(
    session: &mut Session<Delta>,
    mesh: &XdsSnapshot,
    type_url: &'static str,
) -> (usize, Vec<String>) {
    let next = changed(mesh, type_url, "default/service-00050");
    take_looked_at();
    session.offer(Arc::clone(&next));
    let said = settle(session);
    (take_looked_at(), said)
}

#[test]
fn one_change_costs_a_sidecar_as_much_among_ten_thousand_services_as_among_a_hundred() {
    for type_url in [VIRTUAL_HOST, ENDPOINT] {
        for services in [100, 1_000, 10_000] {
            let mesh = mesh(services);
            let mut session = sidecar(&mesh);
            let (looked_at, said) = cost(&mut session, &mesh, type_url);
            assert_eq!(said, ["default/service-00050", "snapshot"]);
            assert!(looked_at <= 8, "{looked_at} resources among {services} services");
        }
    }
}

#[test]
fn one_change_costs_a_client_that_asks_by_name_as_little() {
    for services in [100, 10_000] {
        let mesh = mesh(services);
        let names: Vec<String> =
            (0..services).map(|service| format!("default/service-{service:05}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut session = Session::<Delta>::new(Arc::clone(&mesh), Client::default());
        session.receive(want(CLUSTER, &[], &[])).unwrap();
        session.receive(want(ENDPOINT, &names, &[])).unwrap();
        session.receive(want(LISTENER, &[], &[])).unwrap();
        session.receive(want(ROUTE, &["outbound"], &[])).unwrap();
        assert_eq!(settle(&mut session).len(), 2 * services + 2);
        let (looked_at, said) = cost(&mut session, &mesh, CLUSTER);
        assert_eq!(said, ["default/service-00050", "default/service-00050"], "and it is warmed");
        assert!(looked_at <= 8, "{looked_at} resources among {services} services");
    }
}

#[test]
fn a_client_that_is_in_sync_holds_the_snapshot_s_own_maps() {
    let mesh = mesh(10_000);
    let mut session = sidecar(&mesh);
    let next = changed(&mesh, VIRTUAL_HOST, "default/service-00050");
    session.offer(Arc::clone(&next));
    settle(&mut session);
    for held in session.holding().types {
        assert!(held.is_shared_with(next.of_type(&held.type_url).unwrap()), "{}", held.type_url);
    }
}

#[test]
fn what_all_sidecars_get_is_found_and_written_once() {
    let before = mesh(1_000);
    let mut after = XdsSnapshot::clone(&before);
    after.revision = before.revision.next();
    for service in 0..500 {
        put(&mut after, ENDPOINT, &format!("default/service-{service:05}"), "2");
    }
    put(&mut after, SNAPSHOT_MARK, "snapshot", "2");
    let after = Arc::new(after);
    let mut costs = Vec::new();
    let mut written = Vec::new();
    for _ in 0..3 {
        let mut session = sidecar(&before);
        session.offer(Arc::clone(&after));
        take_looked_at();
        let response = session.respond().unwrap();
        costs.push(take_looked_at());
        assert_eq!((&*response.type_url, response.resources.len()), (ENDPOINT, 500));
        let mut message = Message::of::<Delta>(response);
        let part = message.next_part().unwrap();
        written.push((part.as_ptr(), part.len()));
    }
    assert_eq!(costs, [500, 0, 0]);
    assert!(written.iter().all(|part| part == &written[0]), "the very same bytes");
}

#[test]
fn a_client_that_connects_again_shares_what_is_the_same() {
    let mesh = mesh(1_000);
    let mut session = Session::<Delta>::new(Arc::clone(&mesh), Client::default());
    for type_url in SIDECAR {
        let all = mesh.of_type(type_url).unwrap();
        let has: Vec<(&str, &str)> =
            all.iter().map(|(name, one)| (&**name, one.version())).collect();
        session.receive(again(type_url, &["*"], &has)).unwrap();
    }
    assert!(settle(&mut session).is_empty(), "it has it all");
    assert_eq!(session.accepted(), Revision(1));
    for held in session.holding().types {
        assert!(held.is_shared_with(mesh.of_type(&held.type_url).unwrap()), "{}", held.type_url);
    }
}

thread_local! {
    static COMPARED: Cell<usize> = const { Cell::new(0) };
}

/// A key and a value that count how often they are compared.
#[derive(Clone, Debug)]
struct Counted(u32);

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        COMPARED.set(COMPARED.get() + 1);
        self.0 == other.0
    }
}

impl Eq for Counted {}

impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Counted {
    fn cmp(&self, other: &Self) -> Ordering {
        COMPARED.set(COMPARED.get() + 1);
        self.0.cmp(&other.0)
    }
}

/// What sessions rely on: comparing two maps costs what differs.
#[test]
fn the_difference_of_two_maps_is_found_without_looking_at_what_they_share() {
    for entries in [1_000, 100_000] {
        let before: OrdMap<Counted, Counted> =
            (0..entries).map(|at| (Counted(at), Counted(0))).collect();
        for at in [0, entries / 2, entries - 1] {
            let after = before.update(Counted(at), Counted(1));
            COMPARED.set(0);
            assert_eq!(before.diff(&after).count(), 1);
            assert!(COMPARED.get() <= 200, "{} comparisons of {entries}", COMPARED.get());
        }
        COMPARED.set(0);
        assert_eq!(before.diff(&before.without(&Counted(entries / 2))).count(), 1);
        assert!(COMPARED.get() <= 200, "{} comparisons of {entries}", COMPARED.get());
    }
}
