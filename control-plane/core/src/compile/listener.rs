//! `Listener`: where requests leave the application, through a proxy or by its own client.

use envoy_types::pb::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use envoy_types::pb::envoy::config::core::v3::{
    Http2ProtocolOptions, HttpProtocolOptions, TrafficDirection,
};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::{ApiListener, Filter, FilterChain, Listener};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    PathWithEscapedSlashesAction, RouteSpecifier, UpgradeConfig,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds,
};
use envoy_types::pb::google::protobuf::BoolValue;
use segue_shared::extension::{pack_as, type_url};
use segue_shared::xds_names::{OUTBOUND_LISTENER, OUTBOUND_ROUTES};

use super::endpoint::address;
use super::extension::ads;
use super::{NodeKind, fault, session};

const MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";

/// The one listener of proxies.
pub(super) fn outbound(kind: NodeKind) -> Listener {
    let mut manager = manager(OUTBOUND_LISTENER, OUTBOUND_ROUTES);
    if matches!(kind, NodeKind::Envoy { .. }) {
        // Envoy makes faults and keeps sessions by filters that do nothing where routes do not say
        // what. They are there whether or not one does, because another listener would cut
        // connections.
        manager.http_filters.insert(0, session::filter());
        manager.http_filters.insert(0, fault::filter());
        read_as_our_sidecars_do(&mut manager);
    }
    let manager = pack_as(&type_url(MANAGER), &manager);
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
    let manager = pack_as(&type_url(MANAGER), &manager("", routes));
    let api_listener = Some(ApiListener { api_listener: Some(manager) });
    Listener { name, api_listener, ..Listener::default() }
}

/// What reads requests, and which routes it reads them by.
fn manager(stat_prefix: &str, routes: &str) -> HttpConnectionManager {
    let router =
        http_filter::ConfigType::TypedConfig(pack_as(&type_url(ROUTER), &Router::default()));
    let router = HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(router),
        ..HttpFilter::default()
    };
    HttpConnectionManager {
        stat_prefix: stat_prefix.to_owned(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: routes.to_owned(),
        })),
        http_filters: vec![router],
        ..HttpConnectionManager::default()
    }
}

/// One meaning for each request before rules look at it, as far as Envoy has settings for what our
/// sidecars always do. Left to itself, it routes by paths and hosts as they were written, which
/// upstreams may read otherwise.
fn read_as_our_sidecars_do(manager: &mut HttpConnectionManager) {
    manager.normalize_path = Some(BoolValue { value: true });
    manager.merge_slashes = true;
    manager.set_path_with_escaped_slashes_action(PathWithEscapedSlashesAction::RejectRequest);
    manager.strip_trailing_host_dot = true;
    let mut common = HttpProtocolOptions::default();
    common.set_headers_with_underscores_action(HeadersWithUnderscoresAction::RejectRequest);
    manager.common_http_protocol_options = Some(common);
    // Whoever follows a request by its id put it there for that.
    manager.preserve_external_request_id = true;
    // WebSocket passes, over HTTP/2 as well (RFC 8441), and no other protocol does.
    manager.upgrade_configs =
        vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..UpgradeConfig::default() }];
    manager.http2_protocol_options =
        Some(Http2ProtocolOptions { allow_connect: true, ..Http2ProtocolOptions::default() });
}
