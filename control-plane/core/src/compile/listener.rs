//! `Listener`: where requests leave the application, through a proxy or by its own client.

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::{ApiListener, Filter, FilterChain, Listener};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds,
};
use envoy_types::pb::google::protobuf::Any;
use segue_shared::extension::{pack_as, type_url};
use segue_shared::xds_names::{OUTBOUND_LISTENER, OUTBOUND_ROUTES};

use super::endpoint::address;
use super::extension::ads;
use super::{NodeKind, session};

const MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";

/// The one listener of proxies.
pub(super) fn outbound(kind: NodeKind) -> Listener {
    // Envoy keeps sessions by a filter that does nothing where routes do not say what to keep. It is
    // there whether or not one does, because another listener would cut connections.
    let sessions = matches!(kind, NodeKind::Envoy { .. }).then(session::filter);
    let manager = manager(OUTBOUND_LISTENER, OUTBOUND_ROUTES, sessions);
    Listener {
        name: OUTBOUND_LISTENER.to_owned(),
        address: Some(address(kind.outbound_address())),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "envoy.filters.network.http_connection_manager".to_owned(),
                config_type: Some(ConfigType::TypedConfig(manager)),
            }],
            ..FilterChain::default()
        }],
        traffic_direction: TrafficDirection::Outbound as i32,
        ..Listener::default()
    }
}

/// A listener without a socket: what a client that calls `name` itself must know.
pub(super) fn api(name: String, routes: &str) -> Listener {
    let api_listener = Some(ApiListener { api_listener: Some(manager("", routes, None)) });
    Listener { name, api_listener, ..Listener::default() }
}

/// What reads requests, and which routes it reads them by.
fn manager(stat_prefix: &str, routes: &str, filter: Option<HttpFilter>) -> Any {
    let router =
        http_filter::ConfigType::TypedConfig(pack_as(&type_url(ROUTER), &Router::default()));
    let router = HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(router),
        ..HttpFilter::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: stat_prefix.to_owned(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: routes.to_owned(),
        })),
        // The router answers requests, so nothing can come after it.
        http_filters: filter.into_iter().chain([router]).collect(),
        ..HttpConnectionManager::default()
    };
    pack_as(&type_url(MANAGER), &manager)
}
