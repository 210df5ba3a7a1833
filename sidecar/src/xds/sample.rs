//! Resources for tests, as small as they can be.
#![allow(dead_code, reason = "each test needs some of it")]

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, EdsClusterConfig,
};
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ConfigSource, SocketAddress, TransportSocket, address,
};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::envoy::config::listener::v3::{ApiListener, Listener};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, Vhds, VirtualHost,
};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier, http_filter,
};
use envoy_types::pb::google::protobuf::{Any, Duration};
use segue_proto::extension::v1::SnapshotMark;
use segue_shared::extension::{pack, pack_as};
use segue_shared::xds_names::type_urls;

fn ads() -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

/// The outbound listener.
pub fn listener() -> Any {
    let manager = HttpConnectionManager {
        http_filters: vec![HttpFilter {
            config_type: Some(http_filter::ConfigType::TypedConfig(pack(&Router::default()))),
            ..Default::default()
        }],
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: "outbound".to_owned(),
        })),
        ..Default::default()
    };
    pack(&Listener {
        name: "outbound".to_owned(),
        traffic_direction: 2,
        api_listener: Some(ApiListener { api_listener: Some(pack(&manager)) }),
        ..Default::default()
    })
}

/// Routes from host `chat` to a cluster.
pub fn routes(cluster: &str) -> Any {
    pack(&RouteConfiguration {
        name: "outbound".to_owned(),
        virtual_hosts: vec![chat("chat", cluster)],
        ..Default::default()
    })
}

/// Routes whose virtual hosts come apart.
pub fn vhds() -> Any {
    pack(&RouteConfiguration {
        name: "outbound".to_owned(),
        vhds: Some(Vhds { config_source: Some(ads()) }),
        ..Default::default()
    })
}

/// A virtual host `default/NAME` that leads from host NAME to a cluster.
pub fn virtual_host(name: &str, cluster: &str) -> Any {
    pack(&VirtualHost { name: format!("default/{name}"), ..chat(name, cluster) })
}

fn chat(name: &str, cluster: &str) -> VirtualHost {
    let route = Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..Default::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
            ..Default::default()
        })),
        ..Default::default()
    };
    VirtualHost {
        name: name.to_owned(),
        domains: vec![name.to_owned()],
        routes: vec![route],
        ..Default::default()
    }
}

fn eds(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(3)),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ads()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A cluster with endpoints over ADS.
pub fn cluster(name: &str) -> Any {
    pack(&eds(name))
}

/// A cluster that is refused.
pub fn tls_cluster(name: &str) -> Any {
    let socket = TransportSocket { name: "tls".to_owned(), ..Default::default() };
    pack(&Cluster { transport_socket: Some(socket), ..eds(name) })
}

/// A cluster with one endpoint that is a host name, asked for ten times a second.
#[allow(deprecated, reason = "the field that control planes still send")]
pub fn dns_cluster(name: &str, host: &str, port: u16) -> Any {
    pack(&Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(1)),
        load_assignment: Some(one_endpoint(name, host, port)),
        dns_refresh_rate: Some(Duration { seconds: 0, nanos: 100_000_000 }),
        ..eds(name)
    })
}

/// One endpoint on this machine.
pub fn assignment(name: &str, port: u16) -> Any {
    pack(&one_endpoint(name, "127.0.0.1", port))
}

fn one_endpoint(name: &str, host: &str, port: u16) -> ClusterLoadAssignment {
    let socket = SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(u32::from(port))),
        ..Default::default()
    };
    let endpoint = Endpoint {
        address: Some(Address { address: Some(address::Address::SocketAddress(socket)) }),
        ..Default::default()
    };
    let endpoint = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() }],
        ..Default::default()
    }
}

/// The end of a snapshot.
pub fn mark(revision: u64) -> Any {
    pack_as(type_urls::SNAPSHOT_MARK, &SnapshotMark { revision, digest: revision })
}
