//! Resources as text for golden files: what is unset is left out, what is packed is unpacked.

use std::fmt::{Debug, Write as _};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::route::v3::{
    FilterConfig, Route, RouteConfiguration, VirtualHost,
};
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3::StatefulSessionPerRoute;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3::stateful_session_per_route::Override;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::http::stateful_session::cookie::v3::CookieBasedSessionState;
use envoy_types::pb::envoy::extensions::http::stateful_session::envelope::v3::EnvelopeSessionState;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use segue_proto::extension::v1::{SnapshotMark, Split};
use segue_shared::xds_names::{short_type, type_urls};

use crate::snapshot::XdsSnapshot;

/// All resources of a type.
pub fn of_type(snapshot: &XdsSnapshot, type_url: &str) -> String {
    let mut text = String::new();
    for (name, resource) in snapshot.of_type(type_url).unwrap() {
        let _ = writeln!(text, "=== {} {name}", short_type(type_url));
        let value = &Any::decode(resource.any()).unwrap();
        text += &match type_url {
            type_urls::LISTENER => listener(&decode(value)),
            type_urls::ROUTE => routes(&decode(value)),
            type_urls::VIRTUAL_HOST => virtual_host(&decode(value)),
            type_urls::CLUSTER => cluster(&decode(value)),
            type_urls::ENDPOINT => plain(&decode::<ClusterLoadAssignment>(value)),
            _ => plain(&decode::<SnapshotMark>(value)),
        };
    }
    text
}

/// The routes of a snapshot's virtual host.
pub fn routes_of(snapshot: &XdsSnapshot, host: &str) -> Vec<Route> {
    virtual_hosts(snapshot).into_iter().find(|found| found.name == host).unwrap().routes
}

/// Names of a snapshot's virtual hosts.
pub fn hosts_of(snapshot: &XdsSnapshot) -> Vec<String> {
    virtual_hosts(snapshot).into_iter().map(|host| host.name).collect()
}

/// Virtual hosts, inline or as resources of their own.
pub fn virtual_hosts(snapshot: &XdsSnapshot) -> Vec<VirtualHost> {
    let own = snapshot.of_type(type_urls::VIRTUAL_HOST).into_iter().flatten();
    let own = own.map(|(_, resource)| VirtualHost::decode(resource.value()).unwrap());
    let resource = &snapshot.of_type(type_urls::ROUTE).unwrap()["outbound"];
    let routes = RouteConfiguration::decode(resource.value()).unwrap();
    own.chain(routes.virtual_hosts).collect()
}

/// The split of a route, where it has one.
pub fn split_of(route: &Route) -> Option<Split> {
    let config: FilterConfig = decode(route.typed_per_filter_config.get("segue.split")?);
    assert!(config.is_optional, "others must be able to skip it");
    Some(decode(&config.config.unwrap()))
}

pub fn decode<M: Message + Default>(any: &Any) -> M {
    M::decode(any.value.as_slice()).unwrap()
}

fn listener(listener: &Listener) -> String {
    let mut text = plain(listener);
    if let Some(api) = &listener.api_listener {
        text += &plain(&decode::<HttpConnectionManager>(api.api_listener.as_ref().unwrap()));
    }
    for filter in listener.filter_chains.iter().flat_map(|chain| &chain.filters) {
        if let Some(ConfigType::TypedConfig(config)) = &filter.config_type {
            text += &if config.type_url.ends_with("TcpProxy") {
                plain(&decode::<TcpProxy>(config))
            } else {
                plain(&decode::<HttpConnectionManager>(config))
            };
        }
    }
    text
}

fn cluster(cluster: &Cluster) -> String {
    let mut text = plain(cluster);
    for options in cluster.typed_extension_protocol_options.values() {
        text += &plain(&decode::<HttpProtocolOptions>(options));
    }
    text
}

fn routes(routes: &RouteConfiguration) -> String {
    let mut text = String::new();
    for host in &routes.virtual_hosts {
        text += &virtual_host(host);
    }
    let rest = RouteConfiguration { virtual_hosts: Vec::new(), ..routes.clone() };
    text + &plain(&rest)
}

fn virtual_host(host: &VirtualHost) -> String {
    let mut text = format!("--- {} at {}\n", host.name, host.domains.join(", "));
    for kept in host.typed_per_filter_config.values() {
        let kept: StatefulSessionPerRoute = decode(kept);
        let Some(Override::StatefulSession(session)) = &kept.r#override else { unreachable!() };
        let state = session.session_state.as_ref().unwrap();
        let config = state.typed_config.as_ref().unwrap();
        text += &match &*state.name {
            "envoy.http.stateful_session.cookie" => {
                plain(&decode::<CookieBasedSessionState>(config))
            }
            _ => plain(&decode::<EnvelopeSessionState>(config)),
        };
    }
    for route in &host.routes {
        text += &plain(route);
        if let Some(split) = split_of(route) {
            text += &plain(&split);
        }
    }
    text
}

/// The debug form without what is unset, without `Some`, and without packed bytes.
fn plain(message: &impl Debug) -> String {
    let debug = format!("{message:#?}");
    let mut text = String::new();
    let mut lines = debug.lines().map(str::trim);
    let unset = [": None,", ": [],", ": \"\",", ": 0,", ": false,", ": {},"];
    let (mut depth, mut begun) = (0, String::new());
    while let Some(line) = lines.next() {
        if line.starts_with(')') || unset.iter().any(|unset| line.ends_with(unset)) {
            continue;
        }
        if line == "value: [" {
            // Bytes of an `Any`; they are unpacked elsewhere.
            lines.by_ref().find(|line| *line == "],");
            continue;
        }
        // What is in parentheses goes on in the next line.
        if let Some(outer) = line.strip_suffix('(') {
            let _ = write!(begun, "{} ", outer.trim_end_matches("Some").trim_end());
            continue;
        }
        if line.starts_with(['}', ']']) {
            depth -= 1;
        }
        let line = line.trim_end_matches(',');
        let _ = writeln!(text, "{:1$}{begun}{line}", "", 2 * depth);
        begun.clear();
        if line.ends_with(['{', '[']) {
            depth += 1;
        }
    }
    text
}
