//! Clusters whose endpoints are host names: their addresses come without a mark.

use segue_shared::xds_names::type_urls::{CLUSTER, ROUTE, SNAPSHOT_MARK};
use segue_sidecar_core::dns::Family;

use super::{delta_response, ready, running};
use crate::xds::delta::DeltaStream;
use crate::xds::inbox::{Inbox, Linked, Linking, Revision};
use crate::xds::sample::{dns_cluster, mark, routes};

fn answer(inbox: &mut Inbox, address: Option<&str>) {
    let wanted = inbox.wanted_names();
    let query = wanted.keys().next().unwrap();
    assert_eq!((&*query.host, query.family), ("a.test", Family::Auto));
    inbox.resolved(query, address.map(|it| [it.parse().unwrap()].into()));
}

fn address(linked: &Linked) -> String {
    let clusters = &linked.snapshot.clusters;
    let endpoints = &clusters.get(clusters.index_of("a").unwrap()).unwrap().endpoints;
    endpoints.iter().map(|it| it.address.to_string()).collect()
}

/// A sidecar that runs on revision 2, where a is a host name.
fn named() -> (DeltaStream, Inbox) {
    let (mut stream, mut inbox) = running();
    let a = dns_cluster("a", "a.test", 80);
    stream.receive(delta_response(CLUSTER, vec![("a", "2", a)]), &mut inbox);
    stream.receive(delta_response(SNAPSHOT_MARK, vec![("snapshot", "2", mark(2))]), &mut inbox);
    let Linking::Waiting(missing) = inbox.link() else { panic!("its address is not known") };
    assert_eq!(missing, ["address of a.test"]);
    answer(&mut inbox, Some("10.0.0.1"));
    let linked = ready(&mut inbox);
    assert_eq!((linked.snapshot.revision, linked.clean), (Some(Revision(2)), true));
    assert_eq!(address(&linked), "10.0.0.1:80");
    (stream, inbox)
}

#[test]
fn new_addresses_are_activated_at_once_under_the_same_revision() {
    let (_, mut inbox) = named();
    assert!(matches!(inbox.link(), Linking::Idle));
    answer(&mut inbox, Some("10.0.0.2"));
    let linked = ready(&mut inbox);
    assert_eq!((linked.snapshot.revision, linked.clean), (Some(Revision(2)), true));
    assert_eq!(address(&linked), "10.0.0.2:80");
    assert!(matches!(inbox.link(), Linking::Idle), "once");
    answer(&mut inbox, None);
    assert!(matches!(inbox.link(), Linking::Idle), "a failure changes nothing");
}

#[test]
fn new_addresses_come_with_the_mark_that_is_on_its_way() {
    let (mut stream, mut inbox) = named();
    stream.receive(delta_response(ROUTE, vec![("outbound", "3", routes("a"))]), &mut inbox);
    let changed = vec![("a", "3", dns_cluster("a", "a.test", 81))];
    stream.receive(delta_response(CLUSTER, changed), &mut inbox);
    answer(&mut inbox, Some("10.0.0.3"));
    assert!(matches!(inbox.link(), Linking::Idle), "half of revision 3 is here");
    stream.receive(delta_response(SNAPSHOT_MARK, vec![("snapshot", "3", mark(3))]), &mut inbox);
    let linked = ready(&mut inbox);
    assert_eq!(linked.snapshot.revision, Some(Revision(3)));
    assert_eq!(address(&linked), "10.0.0.3:81");
    assert!(matches!(inbox.link(), Linking::Idle));
}

#[test]
fn what_is_held_for_another_reason_still_follows_its_names() {
    let (mut stream, mut inbox) = named();
    stream.receive(delta_response(ROUTE, vec![("outbound", "3", routes("gone"))]), &mut inbox);
    stream.receive(delta_response(SNAPSHOT_MARK, vec![("snapshot", "3", mark(3))]), &mut inbox);
    assert!(matches!(inbox.link(), Linking::Waiting(_)));
    inbox.wait_no_longer();
    assert_eq!(ready(&mut inbox).held_by, ["Cluster gone"]);
    answer(&mut inbox, Some("10.0.0.9"));
    let linked = ready(&mut inbox);
    assert_eq!((address(&linked), linked.clean), ("10.0.0.9:80".to_owned(), false));
    assert_eq!(linked.held_by, ["Cluster gone"]);
}

#[test]
fn what_was_saved_serves_even_where_its_names_are_not_answered() {
    let (_, inbox) = named();
    let stored = inbox.stored().into_iter();
    let saved = stored.flat_map(|(type_url, of_type)| {
        let of_type = of_type.into_iter();
        of_type.map(move |(name, stored)| (type_url.to_owned(), name.to_string(), stored))
    });
    let mut restored = Inbox::default();
    restored.restore(saved.collect());
    let snapshot = restored.link_restored().unwrap();
    assert_eq!(snapshot.revision, Some(Revision(2)));
    answer(&mut restored, Some("10.0.0.1"));
    let linked = ready(&mut restored);
    assert_eq!(
        (address(&linked), linked.snapshot.revision),
        ("10.0.0.1:80".into(), Some(Revision(2)))
    );
}
