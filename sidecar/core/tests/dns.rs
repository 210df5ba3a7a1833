//! Clusters whose endpoints are host names: compiled, and linked as the names are answered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail so")]

mod sample;

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CustomClusterType, RefreshRate,
};
use envoy_types::pb::envoy::config::core::v3::address;
use envoy_types::pb::envoy::config::endpoint::v3::endpoint::AdditionalAddress;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, Endpoint};
use envoy_types::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use envoy_types::pb::google::protobuf::{Any, Duration as PbDuration};
use prost::Message;
use segue_shared::extension::pack_as;
use segue_shared::xds_names::type_urls;
use segue_sidecar_core::compile::{Compiled, EndpointSource, Link, Linker, compile};
use segue_sidecar_core::dns::{DnsSpec, Family, Query, Refresh};
use segue_sidecar_core::snapshot::{Cluster as LinkedCluster, CompiledSnapshot};

use sample::{assignment, cluster, listener, routes};

const STRICT_DNS: i32 = 1;
const LOGICAL_DNS: i32 = 2;

fn dns(name: &str, kind: i32, addresses: &[&str]) -> Cluster {
    Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind)),
        eds_cluster_config: None,
        load_assignment: Some(assignment(name, addresses)),
        ..cluster(name, false)
    }
}

fn extension(name: &str, addresses: &[&str], config: &DnsCluster) -> Cluster {
    let any = pack_as("type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster", config);
    custom(name, addresses, any)
}

fn custom(name: &str, addresses: &[&str], config: Any) -> Cluster {
    let custom =
        CustomClusterType { name: "envoy.cluster.dns".to_owned(), typed_config: Some(config) };
    let discovery = Some(ClusterDiscoveryType::ClusterType(custom));
    Cluster { cluster_discovery_type: discovery, ..dns(name, STRICT_DNS, addresses) }
}

fn endpoint(message: &mut ClusterLoadAssignment) -> &mut Endpoint {
    match &mut message.endpoints[0].lb_endpoints[0].host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        other => panic!("{other:?}"),
    }
}

const fn secs(seconds: i64) -> PbDuration {
    PbDuration { seconds, nanos: 0 }
}

fn spec(message: &Cluster) -> DnsSpec {
    let compiled = compile(type_urls::CLUSTER, None, &message.encode_to_vec()).unwrap();
    let Compiled::Cluster(spec) = compiled else { panic!("{compiled:?}") };
    match Arc::into_inner(spec).unwrap().source {
        EndpointSource::Dns(dns) => dns,
        other => panic!("{other:?}"),
    }
}

fn refusal(message: &Cluster) -> String {
    compile(type_urls::CLUSTER, None, &message.encode_to_vec()).unwrap_err().to_string()
}

#[test]
#[allow(deprecated)]
fn both_ways_to_say_it_mean_the_same() {
    let mut old = Cluster {
        dns_lookup_family: 1,
        dns_refresh_rate: Some(secs(30)),
        dns_failure_refresh_rate: Some(RefreshRate {
            base_interval: Some(secs(2)),
            max_interval: None,
        }),
        respect_dns_ttl: true,
        dns_jitter: Some(secs(1)),
        ..dns("a", LOGICAL_DNS, &["Chat.Example.test:80"])
    };
    let failure = envoy_types::pb::envoy::extensions::clusters::dns::v3::dns_cluster::RefreshRate {
        base_interval: Some(secs(2)),
        max_interval: Some(secs(20)),
    };
    let new = DnsCluster {
        dns_lookup_family: 2,
        dns_refresh_rate: Some(secs(30)),
        dns_failure_refresh_rate: Some(failure),
        respect_dns_ttl: true,
        dns_jitter: Some(secs(1)),
        all_addresses_in_single_endpoint: true,
        ..DnsCluster::default()
    };
    let refresh = Refresh {
        every: Duration::from_secs(30),
        failure_first: Duration::from_secs(2),
        failure_most: Duration::from_secs(20),
        respect_ttl: true,
        jitter: Duration::from_secs(1),
    };
    let compiled = spec(&old);
    assert_eq!(compiled, spec(&extension("a", &["chat.example.test:80"], &new)));
    assert_eq!((compiled.refresh, compiled.logical), (refresh, true));
    let query = Query { host: "chat.example.test".into(), family: Family::V4Only };
    assert_eq!(compiled.queries().collect::<Vec<_>>(), [&query]);

    old = dns("a", STRICT_DNS, &["a.test:80", "10.0.0.1:80"]);
    let plain = spec(&old);
    let extended = extension("a", &["a.test:80", "10.0.0.1:80"], &DnsCluster::default());
    assert_eq!(plain, spec(&extended));
    assert_eq!((plain.refresh, plain.logical), (Refresh::default(), false));
    assert_eq!(plain.queries().count(), 1);
}

#[test]
#[allow(deprecated)]
fn what_cannot_be_asked_is_refused_by_its_place() {
    let host = |host: &str| refusal(&dns("a", STRICT_DNS, &[&format!("{host}:80")]));
    let place = "Cluster a: load_assignment.endpoints[0].lb_endpoints[0].endpoint";
    for bad in ["", "a..b", "a b", "http://a", &"a".repeat(64), &"a.".repeat(128)] {
        let reason = format!("{bad:?} is neither a host name nor an IP address");
        assert_eq!(host(bad), format!("{place}.address.socket_address.address: {reason}"));
    }
    let two = dns("a", LOGICAL_DNS, &["a.test:80", "b.test:80"]);
    let reason = "has 2 endpoints; a logical DNS cluster has exactly one";
    assert_eq!(refusal(&two), format!("Cluster a: load_assignment: {reason}"));
    let none = Cluster { load_assignment: None, ..two };
    let reason = "must be set for clusters that ask DNS";
    assert_eq!(refusal(&none), format!("Cluster a: load_assignment: {reason}"));

    let good = || dns("a", STRICT_DNS, &["a.test:80"]);
    let zero = Cluster { dns_refresh_rate: Some(secs(0)), ..good() };
    assert_eq!(refusal(&zero), "Cluster a: dns_refresh_rate: must be greater than 0");
    let family = Cluster { dns_lookup_family: 9, ..good() };
    assert_eq!(refusal(&family), "Cluster a: dns_lookup_family: 9 is unknown");
    let rates = RefreshRate { base_interval: Some(secs(2)), max_interval: Some(secs(1)) };
    let failure = Cluster { dns_failure_refresh_rate: Some(rates), ..good() };
    let field = "dns_failure_refresh_rate.max_interval";
    assert_eq!(refusal(&failure), format!("Cluster a: {field}: must not be below base_interval"));
    let mut resolver = good();
    let told = endpoint(resolver.load_assignment.as_mut().unwrap());
    match told.address.as_mut().unwrap().address.as_mut().unwrap() {
        address::Address::SocketAddress(socket) => socket.resolver_name = "mine".to_owned(),
        other => panic!("{other:?}"),
    }
    let reason = "address.socket_address.resolver_name: is not supported";
    assert_eq!(refusal(&resolver), format!("{place}.{reason}"));

    let other = custom("a", &["a.test:80"], Any { type_url: "x/y.Z".to_owned(), value: vec![] });
    assert_eq!(refusal(&other), "Cluster a: cluster_type.typed_config: x/y.Z is not supported");
    let family = DnsCluster { dns_lookup_family: 7, ..DnsCluster::default() };
    let family = refusal(&extension("a", &["a.test:80"], &family));
    assert_eq!(family, "Cluster a: cluster_type.typed_config.dns_lookup_family: 7 is unknown");
    let bad_host = refusal(&extension("a", &["a b:80"], &DnsCluster::default()));
    assert!(bad_host.starts_with(place), "outside of the extension: {bad_host}");
}

#[test]
fn further_addresses_of_an_endpoint_take_turns_of_family() {
    let mut message = assignment("a", &["10.0.0.1:80"]);
    let further = ["10.0.0.2:80", "[::1]:80", "10.0.0.1:80"].map(|text| AdditionalAddress {
        address: endpoint(&mut assignment("a", &[text])).address.clone(),
    });
    endpoint(&mut message).additional_addresses = further.into();
    let compiled = compile(type_urls::ENDPOINT, None, &message.encode_to_vec()).unwrap();
    let Compiled::Assignment(compiled) = compiled else { panic!("{compiled:?}") };
    let only = &compiled.endpoints[0];
    let others: Vec<String> = only.others.iter().map(ToString::to_string).collect();
    assert_eq!(
        (only.address.to_string(), others.join(" ")),
        ("10.0.0.1:80".into(), "[::1]:80 10.0.0.2:80".into())
    );

    let name = endpoint(&mut assignment("a", &["b.test:80"])).address.clone();
    endpoint(&mut message).additional_addresses[1].address = name;
    let refused = compile(type_urls::ENDPOINT, None, &message.encode_to_vec()).unwrap_err();
    let place = "endpoints[0].lb_endpoints[0].endpoint.additional_addresses[1]";
    let place = format!("{place}.address.socket_address.address");
    assert_eq!((refused.field_path, &*refused.reason), (place, "\"b.test\" is no IP address"));
}

fn put<M: Message>(linker: &mut Linker, type_url: &str, message: &M) {
    linker.put(compile(type_url, None, &message.encode_to_vec()).unwrap()).unwrap();
}

fn mesh(to: &Cluster) -> Linker {
    let mut linker = Linker::default();
    put(&mut linker, type_urls::LISTENER, &listener("outbound", "outbound", &[]));
    put(&mut linker, type_urls::ROUTE, &routes(&[("chat", "a")]));
    put(&mut linker, type_urls::CLUSTER, to);
    linker
}

fn ready(linker: &mut Linker) -> CompiledSnapshot {
    match linker.link(None) {
        Link::Ready(snapshot) => snapshot,
        Link::Waiting { missing } => panic!("waits for {missing:?}"),
    }
}

fn the(snapshot: &CompiledSnapshot) -> Arc<LinkedCluster> {
    Arc::clone(snapshot.clusters.iter().next().unwrap())
}

fn addresses(cluster: &LinkedCluster) -> String {
    let endpoints = cluster.endpoints.iter();
    endpoints.map(|it| it.address.to_string()).collect::<Vec<_>>().join(" ")
}

fn query(host: &str) -> Query {
    Query { host: host.into(), family: Family::Auto }
}

fn answer(linker: &mut Linker, host: &str, addresses: &[&str]) -> bool {
    let addresses = addresses.iter().map(|it| it.parse().unwrap()).collect();
    linker.resolved(&query(host), Some(addresses))
}

#[test]
fn a_cluster_waits_for_its_names_and_follows_their_answers() {
    let mut linker = mesh(&dns("a", STRICT_DNS, &["a.test:80", "b.test:81"]));
    let wanted: Vec<Query> = linker.wanted_names().into_keys().collect();
    assert_eq!(wanted, [query("a.test"), query("b.test")]);
    let missing = |linker: &mut Linker| match linker.link(None) {
        Link::Waiting { missing } => missing.join(" "),
        Link::Ready(snapshot) => panic!("{snapshot:?}"),
    };
    assert_eq!(missing(&mut linker), "address of a.test");
    assert!(answer(&mut linker, "a.test", &["10.0.0.1"]));
    assert_eq!(missing(&mut linker), "address of b.test");
    assert!(linker.resolved(&query("b.test"), None), "a failure ends the wait");
    let first = the(&ready(&mut linker));
    assert_eq!(addresses(&first), "10.0.0.1:80");

    assert!(!answer(&mut linker, "a.test", &["10.0.0.1"]), "no news");
    assert!(!linker.resolved(&query("a.test"), None), "what is known stays true");
    assert!(Arc::ptr_eq(&first, &the(&ready(&mut linker))));
    assert!(answer(&mut linker, "b.test", &["10.0.0.2", "10.0.0.3"]));
    assert_eq!(addresses(&the(&ready(&mut linker))), "10.0.0.1:80 10.0.0.2:81 10.0.0.3:81");
    assert!(answer(&mut linker, "a.test", &[]), "the name is gone");
    assert_eq!(addresses(&the(&ready(&mut linker))), "10.0.0.2:81 10.0.0.3:81");
}

#[test]
fn a_name_that_no_cluster_has_any_more_is_forgotten() {
    let mut linker = mesh(&dns("a", STRICT_DNS, &["a.test:80"]));
    answer(&mut linker, "a.test", &["10.0.0.1"]);
    ready(&mut linker);
    put(&mut linker, type_urls::CLUSTER, &dns("a", STRICT_DNS, &["10.9.9.9:80"]));
    let wanted = linker.wanted_names();
    assert!(wanted.is_empty());
    linker.forget_names_but(&wanted);
    assert_eq!(addresses(&the(&ready(&mut linker))), "10.9.9.9:80");
    put(&mut linker, type_urls::CLUSTER, &dns("a", STRICT_DNS, &["a.test:80"]));
    assert!(matches!(linker.link(None), Link::Waiting { .. }), "it is asked for again");
    linker.remove(type_urls::CLUSTER, "a");
    assert!(linker.wanted_names().is_empty());
}
