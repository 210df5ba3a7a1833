//! Resources in the shape in which Segue's control plane sends them.
#![allow(dead_code, reason = "each test binary needs some of it")]

use std::collections::HashMap;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, EdsClusterConfig,
};
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ConfigSource, Http2ProtocolOptions, SocketAddress, address,
    socket_address::PortSpecifier,
};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::{
    FilterConfig, Route, RouteAction, RouteConfiguration, RouteMatch, Vhds, VirtualHost,
    WeightedCluster,
};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier, http_filter,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
};
use envoy_types::pb::google::protobuf::{Any, UInt32Value};
use segue_proto::extension::v1 as pb;
use segue_shared::extension::{pack, pack_as};

fn ads() -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

/// An outbound listener with filters (name, optional) before the router.
pub fn listener(name: &str, routes: &str, filters: &[(&str, bool)]) -> Listener {
    let unknown = |(name, optional): &(&str, bool)| HttpFilter {
        name: (*name).to_owned(),
        is_optional: *optional,
        config_type: Some(http_filter::ConfigType::TypedConfig(Any {
            type_url: "type.googleapis.com/x.Unknown".to_owned(),
            value: Vec::new(),
        })),
        ..Default::default()
    };
    let router = HttpFilter {
        name: "router".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(pack(&Router::default()))),
        ..Default::default()
    };
    let manager = HttpConnectionManager {
        http_filters: filters.iter().map(unknown).chain([router]).collect(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: routes.to_owned(),
        })),
        ..Default::default()
    };
    let filter = Filter {
        name: "http".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pack(&manager))),
    };
    Listener {
        name: name.to_owned(),
        traffic_direction: 2,
        filter_chains: vec![FilterChain { filters: vec![filter], ..Default::default() }],
        ..Default::default()
    }
}

fn to(specifier: ClusterSpecifier) -> Route {
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..Default::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(specifier),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn config(hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration {
        name: "outbound".to_owned(),
        ignore_port_in_host_matching: true,
        virtual_hosts: hosts,
        ..Default::default()
    }
}

fn host(name: &str, route: Route) -> VirtualHost {
    VirtualHost {
        name: name.to_owned(),
        domains: vec![name.to_owned()],
        routes: vec![route],
        ..Default::default()
    }
}

/// Hosts that each lead to one cluster.
pub fn routes(hosts: &[(&str, &str)]) -> RouteConfiguration {
    let one = |(name, cluster): &(&str, &str)| {
        host(name, to(ClusterSpecifier::Cluster((*cluster).to_owned())))
    };
    config(hosts.iter().map(one).collect())
}

/// A configuration whose hosts come apart.
pub fn vhds() -> RouteConfiguration {
    RouteConfiguration { vhds: Some(Vhds { config_source: Some(ads()) }), ..config(Vec::new()) }
}

/// A host of its own that leads to one cluster.
pub fn virtual_host(name: &str, domains: &[&str], cluster: &str) -> VirtualHost {
    VirtualHost {
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        ..host(name, to(ClusterSpecifier::Cluster(cluster.to_owned())))
    }
}

/// One host with weights.
pub fn weighted(name: &str, weights: &[(&str, u32)]) -> RouteConfiguration {
    let weight = |(name, weight): &(&str, u32)| ClusterWeight {
        name: (*name).to_owned(),
        weight: Some(UInt32Value { value: *weight }),
        ..Default::default()
    };
    let weighted =
        WeightedCluster { clusters: weights.iter().map(weight).collect(), ..Default::default() };
    config(vec![host(name, to(ClusterSpecifier::WeightedClusters(weighted)))])
}

/// The entry `segue.split`, by a header.
pub fn split(salt: &str, header: &str, ranges: &[(&str, u32)]) -> Any {
    let range = |(cluster, buckets): &(&str, u32)| pb::split::Range {
        cluster: (*cluster).to_owned(),
        buckets: *buckets,
    };
    let split = pb::Split {
        salt: salt.to_owned(),
        key: Some(pb::split::Key::Header(header.to_owned())),
        ranges: ranges.iter().map(range).collect(),
    };
    let config = pack_as("type.googleapis.com/segue.extension.v1.Split", &split);
    pack(&FilterConfig { config: Some(config), is_optional: true, disabled: false })
}

/// A cluster whose endpoints come over ADS.
pub fn cluster(name: &str, http2: bool) -> Cluster {
    let protocol = ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default());
    let explicit = ExplicitHttpConfig { protocol_config: Some(protocol) };
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        ..Default::default()
    };
    let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned();
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(3)),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ads()),
            ..Default::default()
        }),
        typed_extension_protocol_options: if http2 {
            HashMap::from([(key, pack(&options))])
        } else {
            HashMap::new()
        },
        ..Default::default()
    }
}

/// Endpoints by `host:port`.
pub fn assignment(name: &str, addresses: &[&str]) -> ClusterLoadAssignment {
    let endpoint = |address: &&str| {
        let (host, port) = address.rsplit_once(':').unwrap();
        let socket = SocketAddress {
            address: host.trim_matches(['[', ']']).to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port.parse().unwrap())),
            ..Default::default()
        };
        LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                address: Some(Address { address: Some(address::Address::SocketAddress(socket)) }),
                ..Default::default()
            })),
            ..Default::default()
        }
    };
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: addresses.iter().map(endpoint).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}
