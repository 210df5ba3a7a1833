//! What a control plane may send: resources of any bytes, compiled and linked.
//!
//! The first byte says whether a small mesh is there before (odd) or not. Then come resources: a byte
//! for the type, with the bit 0x80 set for one that is taken away again, and the bytes of the message
//! behind their length.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use prost::Message;
use segue_shared::ids::Revision;
use segue_shared::xds_names::{short_type, type_urls};
use segue_sidecar_core::compile::{Compiled, Link, Linker, compile};
use segue_sidecar_core::reject::Reject;
use segue_sidecar_core::snapshot::{CompiledSnapshot, RouteAction, VirtualHost as Host};

use crate::input::Input;

#[path = "../../../sidecar/core/tests/sample/mod.rs"]
pub mod sample;

pub const TYPES: [&str; 7] = [
    type_urls::LISTENER,
    type_urls::ROUTE,
    type_urls::VIRTUAL_HOST,
    type_urls::CLUSTER,
    type_urls::ENDPOINT,
    type_urls::SNAPSHOT_MARK,
    "type.googleapis.com/x.Unknown",
];
const REMOVED: u8 = 0x80;
const MOST_RESOURCES: usize = 16;

pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut linker = Linker::default();
    if input.byte() & 1 == 1 {
        for (type_url, value) in mesh() {
            take(&mut linker, type_url, &value);
        }
    }
    for _ in 0..MOST_RESOURCES {
        if input.is_empty() {
            break;
        }
        let kind = input.byte();
        let type_url = TYPES[usize::from(kind & !REMOVED) % TYPES.len()];
        let name = take(&mut linker, type_url, input.piece());
        if let Some(name) = name.filter(|_| kind & REMOVED != 0) {
            linker.remove(type_url, &name);
            assert!(!linker.names(type_url).contains(&name));
        }
        match linker.link(Some(Revision(1))) {
            Link::Ready(snapshot) => leads_somewhere(&snapshot),
            Link::Waiting { .. } => {
                linker.link_held(None).iter().for_each(leads_somewhere);
            }
        }
    }
    links_with_what_is_missing(&mut linker);
}

/// A mesh that links.
pub fn mesh() -> [(&'static str, Vec<u8>); 4] {
    [
        (type_urls::LISTENER, sample::listener("outbound", "outbound", &[]).encode_to_vec()),
        (type_urls::ROUTE, sample::routes(&[("chat", "a")]).encode_to_vec()),
        (type_urls::CLUSTER, sample::cluster("a", false).encode_to_vec()),
        (type_urls::ENDPOINT, sample::assignment("a", &["127.0.0.1:9001"]).encode_to_vec()),
    ]
}

/// Compiles a resource and puts it where it belongs; gives its name where it was taken.
fn take(linker: &mut Linker, type_url: &str, value: &[u8]) -> Option<String> {
    let own_name = own_name(type_url, value);
    let named = compile(type_url, Some("told/name"), value);
    if let Err(reject) = &named {
        names_itself(reject, type_url, "told/name");
    }
    let compiled = match compile(type_url, None, value) {
        Ok(compiled) => compiled,
        Err(reject) => {
            names_itself(&reject, type_url, &own_name);
            assert!(named.is_err(), "a name makes nothing good");
            return None;
        }
    };
    let name = compiled.name().to_owned();
    assert!(!name.is_empty());
    assert_eq!(name, own_name);
    assert_eq!(named.is_ok(), name == "told/name");
    let is_mark = matches!(compiled, Compiled::Mark(_));
    if let Err(reject) = linker.put(compiled) {
        names_itself(&reject, type_url, &name);
        return None;
    }
    assert_eq!(linker.names(type_url).contains(&name), !is_mark);
    Some(name)
}

/// The name in a message, as whoever only decodes it reads it.
fn own_name(type_url: &str, value: &[u8]) -> String {
    fn of<M: Message + Default>(value: &[u8], name: impl FnOnce(M) -> String) -> String {
        M::decode(value).map(name).unwrap_or_default()
    }
    match type_url {
        type_urls::LISTENER => of(value, |it: Listener| it.name),
        type_urls::ROUTE => of(value, |it: RouteConfiguration| it.name),
        type_urls::VIRTUAL_HOST => of(value, |it: VirtualHost| it.name),
        type_urls::CLUSTER => of(value, |it: Cluster| it.name),
        type_urls::ENDPOINT => of(value, |it: ClusterLoadAssignment| it.cluster_name),
        type_urls::SNAPSHOT_MARK => {
            of(value, |_: segue_proto::extension::v1::SnapshotMark| "snapshot".to_owned())
        }
        _ => String::new(),
    }
}

fn names_itself(reject: &Reject, type_url: &str, name: &str) {
    assert_eq!((reject.type_url.as_str(), reject.resource.as_str()), (type_url, name));
    assert!(!reject.reason.is_empty(), "{reject:?}");
    let line = reject.to_string();
    assert!(line.starts_with(&format!("{} {name}", short_type(type_url))), "{line}");
}

/// Every route of a snapshot leads to a cluster that is there.
fn leads_somewhere(snapshot: &CompiledSnapshot) {
    let table = &snapshot.routes;
    let listed = table.suffixes.iter().chain(&table.prefixes).map(|(_, host)| host);
    for host in table.exact.values().chain(listed).chain(&table.any) {
        for route in Host::routes(host) {
            let RouteAction::Forward(forward) = &route.action else { continue };
            let ends: Vec<u16> = forward.split.ranges.iter().map(|(end, _)| *end).collect();
            assert!(ends.is_sorted() && ends.last() == Some(&10_000), "{ends:?}");
            for (_, cluster) in &forward.split.ranges {
                assert!(snapshot.clusters.get(*cluster).is_some(), "{forward:?}");
            }
            let chosen = forward.split.choose(&http::HeaderMap::new(), u64::MAX);
            assert!(snapshot.clusters.get(chosen).is_some());
        }
    }
}

/// What was taken links as soon as what it names is there too.
fn links_with_what_is_missing(linker: &mut Linker) {
    let mut waited_for = BTreeSet::new();
    loop {
        let missing = match linker.link(Some(Revision(2))) {
            Link::Ready(snapshot) => return leads_somewhere(&snapshot),
            Link::Waiting { missing } => missing,
        };
        assert!(!missing.is_empty(), "it says what it waits for");
        for what in missing {
            let (kind, name) = what.split_once(' ').unwrap();
            assert!(waited_for.insert(what.clone()), "{what} was given");
            let (type_url, value) = match kind {
                "Cluster" => (type_urls::CLUSTER, sample::cluster(name, false).encode_to_vec()),
                "ClusterLoadAssignment" => {
                    let assignment = sample::assignment(name, &["127.0.0.1:9001"]);
                    (type_urls::ENDPOINT, assignment.encode_to_vec())
                }
                "RouteConfiguration" => {
                    let routes = RouteConfiguration { name: name.to_owned(), ..Default::default() };
                    (type_urls::ROUTE, routes.encode_to_vec())
                }
                "VirtualHost" => {
                    linker.hosts_told();
                    continue;
                }
                "Listener" => {
                    let listener = sample::listener("outbound", "outbound", &[]);
                    (type_urls::LISTENER, listener.encode_to_vec())
                }
                other => panic!("a missing {other}"),
            };
            let compiled = compile(type_url, None, &value).unwrap_or_else(|it| panic!("{it}"));
            linker.put(compiled).unwrap_or_else(|it| panic!("{it}"));
        }
    }
}
