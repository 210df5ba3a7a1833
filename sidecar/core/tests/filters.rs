//! Faults on virtual hosts and routes, and listeners that pass bytes on.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail so")]

mod sample;

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener,
};
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::FaultDelay;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::google::protobuf::{Any, Duration as PbDuration, UInt32Value};
use prost::Message;
use segue_shared::extension::{pack_as, type_url};
use segue_shared::xds_names::type_urls;
use segue_sidecar_core::compile::{Compiled, Link, Linker, compile};
use segue_sidecar_core::routing::Wanted;
use segue_sidecar_core::snapshot::InjectedFault;

use sample::{assignment, cluster, listener, vhds, virtual_host};

fn fault_of(fault: &HttpFault) -> Any {
    pack_as(&type_url("envoy.extensions.filters.http.fault.v3.HTTPFault"), fault)
}

fn abort(status: u32) -> HttpFault {
    HttpFault {
        abort: Some(FaultAbort {
            percentage: Some(FractionalPercent { numerator: 25, denominator: 0 }),
            error_type: Some(ErrorType::HttpStatus(status)),
            ..FaultAbort::default()
        }),
        ..HttpFault::default()
    }
}

/// The faults of the first two routes of a host with these.
fn faults(
    host: Option<&HttpFault>,
    route: Option<&HttpFault>,
) -> Result<Vec<Option<InjectedFault>>, String> {
    let mut message = virtual_host("chat", &["chat"], "a");
    let named = |fault: &HttpFault| ("envoy.filters.http.fault".to_owned(), fault_of(fault));
    message.typed_per_filter_config = host.into_iter().map(named).collect::<HashMap<_, _>>();
    let mut first = message.routes[0].clone();
    first.typed_per_filter_config = route.into_iter().map(named).collect::<HashMap<_, _>>();
    message.routes.insert(0, first);
    let bytes = message.encode_to_vec();
    match compile(type_urls::VIRTUAL_HOST, Some("outbound/chat"), &bytes) {
        Ok(Compiled::Host(host)) => {
            let routes = host.host.routes.iter().take(2);
            Ok(routes.map(|route| route.fault.as_deref().cloned()).collect())
        }
        Ok(other) => panic!("{other:?}"),
        Err(reject) => Err(reject.to_string()),
    }
}

#[test]
fn the_innermost_fault_counts() {
    let both = faults(Some(&abort(503)), Some(&abort(418))).unwrap();
    let status = |fault: &Option<InjectedFault>| fault.as_ref()?.abort;
    assert_eq!(status(&both[0]).map(|(status, _)| status.as_u16()), Some(418));
    assert_eq!(
        status(&both[1]).map(|(status, share)| (status.as_u16(), share)),
        Some((503, 250_000))
    );
    let none = faults(Some(&abort(503)), Some(&HttpFault::default())).unwrap();
    assert_eq!(none[0], None);
    let delayed = HttpFault {
        delay: Some(FaultDelay {
            percentage: Some(FractionalPercent { numerator: 100, denominator: 0 }),
            fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(PbDuration {
                seconds: 2,
                nanos: 0,
            })),
        }),
        max_active_faults: Some(UInt32Value { value: 7 }),
        ..HttpFault::default()
    };
    let found = faults(Some(&delayed), None).unwrap();
    let expected = InjectedFault {
        delay: Some((Duration::from_secs(2), 1_000_000)),
        abort: None,
        max_active: 7,
    };
    assert_eq!(found, [Some(expected.clone()), Some(expected)]);
}

#[test]
fn what_is_not_served_of_faults_is_named() {
    let refused = faults(None, Some(&abort(99))).unwrap_err();
    assert!(refused.contains("abort.http_status: is 99"), "{refused}");
    assert!(refused.contains("routes[0].typed_per_filter_config"), "{refused}");
    let by_header = HttpFault { downstream_nodes: vec!["a".to_owned()], ..abort(503) };
    let refused = faults(Some(&by_header), None).unwrap_err();
    assert!(refused.contains("downstream_nodes: is not supported"), "{refused}");
}

fn tcp_listener(name: &str, to: &str, matched: FilterChainMatch) -> Listener {
    let proxy = TcpProxy {
        stat_prefix: name.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(to.to_owned())),
        ..TcpProxy::default()
    };
    let url = type_url("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy");
    Listener {
        name: name.to_owned(),
        traffic_direction: TrafficDirection::Outbound as i32,
        filter_chains: vec![FilterChain {
            filter_chain_match: Some(matched),
            filters: vec![Filter {
                name: "tcp".to_owned(),
                config_type: Some(ConfigType::TypedConfig(pack_as(&url, &proxy))),
            }],
            ..FilterChain::default()
        }],
        ..Listener::default()
    }
}

fn database(to: &str) -> Listener {
    let matched = FilterChainMatch {
        destination_port: Some(UInt32Value { value: 5432 }),
        server_names: vec!["db".to_owned()],
        ..FilterChainMatch::default()
    };
    tcp_listener("tcp/default/db", to, matched)
}

fn put<M: Message>(linker: &mut Linker, type_url: &str, message: &M) {
    linker.put(compile(type_url, None, &message.encode_to_vec()).unwrap()).unwrap();
}

#[test]
fn a_service_without_http_is_linked_beside_the_routes_and_held_while_it_cannot_be() {
    let mut linker = Linker::default();
    put(&mut linker, type_urls::LISTENER, &listener("outbound", "outbound", &[]));
    put(&mut linker, type_urls::ROUTE, &vhds());
    linker.hosts_told();
    put(&mut linker, type_urls::LISTENER, &database("old"));
    assert!(matches!(linker.link(None), Link::Waiting { missing } if missing == ["Cluster old"]));
    put(&mut linker, type_urls::CLUSTER, &cluster("old", false));
    put(&mut linker, type_urls::ENDPOINT, &assignment("old", &["127.0.0.1:1"]));
    let wanted = Wanted { name: Some("db"), port: Some(5432), original: None };
    let leads_to = |snapshot: &segue_sidecar_core::snapshot::CompiledSnapshot| {
        let split = &snapshot.tcp.route(wanted).unwrap().split;
        let index = split.choose(&http::HeaderMap::new(), 0);
        snapshot.clusters.get(index).unwrap().name.to_string()
    };
    let Link::Ready(snapshot) = linker.link(None) else { panic!("it waits") };
    assert_eq!(leads_to(&snapshot), "old");

    put(&mut linker, type_urls::LISTENER, &database("new"));
    assert!(matches!(linker.link(None), Link::Waiting { .. }));
    let held = linker.link_held(None).unwrap();
    assert_eq!(leads_to(&held), "old");
    linker.remove(type_urls::LISTENER, "tcp/default/db");
    let Link::Ready(snapshot) = linker.link(None) else { panic!("it waits") };
    assert!(snapshot.tcp.route(wanted).is_none());
}

#[test]
fn what_is_not_served_of_a_chain_is_named() {
    let refused = |matched: FilterChainMatch| {
        let bytes = tcp_listener("x", "a", matched).encode_to_vec();
        compile(type_urls::LISTENER, None, &bytes).unwrap_err().to_string()
    };
    let source = FilterChainMatch { source_ports: vec![1], ..FilterChainMatch::default() };
    let told = refused(source);
    assert!(told.contains("filter_chains[0].filters[0].filter_chain_match.source_ports"), "{told}");
    let name =
        FilterChainMatch { server_names: vec!["a*b".to_owned()], ..FilterChainMatch::default() };
    assert!(refused(name).contains("server_names[0]"));
    let mut twice = database("a");
    let filter = twice.filter_chains[0].filters[0].clone();
    twice.filter_chains[0].filters.insert(0, filter);
    let told = compile(type_urls::LISTENER, None, &twice.encode_to_vec()).unwrap_err().to_string();
    assert!(told.contains("filter_chains[0].filters: must be one `tcp_proxy`"), "{told}");
}
