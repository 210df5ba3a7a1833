//! `Listener`: where requests leave the application.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds,
};
use segue_shared::extension::{pack_as, type_url};
use segue_shared::xds_names::{OUTBOUND_LISTENER, OUTBOUND_ROUTES};

use super::endpoint::address;
use super::extension::ads;

const MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";

pub(super) fn compile(at: SocketAddr) -> Listener {
    let router =
        http_filter::ConfigType::TypedConfig(pack_as(&type_url(ROUTER), &Router::default()));
    let manager = HttpConnectionManager {
        stat_prefix: OUTBOUND_LISTENER.to_owned(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: OUTBOUND_ROUTES.to_owned(),
        })),
        // The router answers requests, so nothing can come after it.
        http_filters: vec![HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(router),
            ..HttpFilter::default()
        }],
        ..HttpConnectionManager::default()
    };
    let manager = ConfigType::TypedConfig(pack_as(&type_url(MANAGER), &manager));
    Listener {
        name: OUTBOUND_LISTENER.to_owned(),
        address: Some(address(at)),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "envoy.filters.network.http_connection_manager".to_owned(),
                config_type: Some(manager),
            }],
            ..FilterChain::default()
        }],
        traffic_direction: TrafficDirection::Outbound as i32,
        ..Listener::default()
    }
}
