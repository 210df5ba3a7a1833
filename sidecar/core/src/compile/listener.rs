//! `Listener` and its `HttpConnectionManager`.
//!
//! | field | taken |
//! |---|---|
//! | `traffic_direction` | yes; an inbound listener is taken and not used |
//! | `api_listener`, or the HTTP connection manager of the first filter chain | yes |
//! | `tcp_proxy` of each filter chain, where the first one has it | yes, see `tcp` |
//! | `rds` over ADS, inline `route_config` | yes; scoped routes are refused |
//! | `http_filters` | the last must be the router; unknown ones are skipped if optional or disabled; `fault` without a fault of its own |
//! | `path_with_escaped_slashes_action` | yes, in place of the sidecar's own setting; a redirect is refused |
//! | `normalize_path`, `merge_slashes`, `strip_*_host_*`, how to deal with headers | ignored: requests are always made canonical, see `canonical` |
//! | `filter_chains[].transport_socket` | refused |
//! | `address` and how to listen | ignored: the sidecar's own settings say where it listens |
//! | access logs, tracing, statistics, limits and times of the connection manager | ignored: they tune |

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::{Filter, Listener as PbListener};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_connection_manager::PathWithEscapedSlashesAction,
    http_connection_manager::RouteSpecifier, http_filter,
};
use envoy_types::pb::google::protobuf::Any;
use segue_shared::extension::unpack;

use super::field::{over_ads, refuse, unsupported};
use super::route::{RouteConfig, route_config};
use super::tcp::{self, TCP_PROXY, TcpSpec};
use crate::canonical::EscapedSlashes;
use crate::reject::Fault;

const CONNECTION_MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const FAULT: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";

/// A listener as far as the sidecar follows it: which way, and which routes.
#[derive(Debug)]
pub struct Listener {
    pub name: Arc<str>,
    pub direction: Direction,
    /// `None` for inbound listeners, whose routes nobody reads.
    pub routes: Option<RouteSource>,
    /// What is done with escaped slashes in paths, where it says so.
    pub escaped_slashes: Option<EscapedSlashes>,
    /// Where connections go that speak no HTTP. Such a listener has no routes.
    pub tcp: Vec<TcpSpec>,
}

/// Which way requests of a listener go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Unspecified,
    /// To the application.
    Inbound,
    /// From the application.
    Outbound,
}

/// Where routes come from.
#[derive(Debug)]
pub enum RouteSource {
    /// The route configuration of this name.
    Rds(Arc<str>),
    /// The listener itself.
    Inline(Box<RouteConfig>),
}

pub(crate) fn listener(message: &PbListener) -> Result<Listener, Fault> {
    let direction = match TrafficDirection::try_from(message.traffic_direction) {
        Ok(TrafficDirection::Inbound) => Direction::Inbound,
        Ok(TrafficDirection::Outbound) => Direction::Outbound,
        Ok(TrafficDirection::Unspecified) | Err(_) => Direction::Unspecified,
    };
    let mut listener = Listener {
        name: message.name.as_str().into(),
        direction,
        routes: None,
        escaped_slashes: None,
        tcp: Vec::new(),
    };
    match direction {
        Direction::Inbound => {}
        Direction::Outbound | Direction::Unspecified if speaks_tcp(message) => {
            listener.tcp = tcp_chains(message)?;
        }
        Direction::Outbound | Direction::Unspecified => {
            let (routes, escaped_slashes) = routes(message)?;
            listener.routes = Some(routes);
            listener.escaped_slashes = escaped_slashes;
        }
    }
    Ok(listener)
}

/// Whether the first chain passes bytes on.
fn speaks_tcp(message: &PbListener) -> bool {
    let first = message.filter_chains.first().or(message.default_filter_chain.as_ref());
    let last = first.and_then(|chain| chain.filters.last());
    last.is_some_and(|filter| {
        matches!(&filter.config_type, Some(ConfigType::TypedConfig(any))
            if any.type_url.ends_with(TCP_PROXY))
    })
}

fn tcp_chains(message: &PbListener) -> Result<Vec<TcpSpec>, Fault> {
    let chains = message.filter_chains.iter().enumerate();
    let chains = chains.map(|(i, chain)| (format!("filter_chains[{i}]"), chain));
    let default = message.default_filter_chain.iter();
    let chains = chains.chain(default.map(|chain| ("default_filter_chain".to_owned(), chain)));
    let specs = chains.map(|(at, chain)| {
        let of_chain = || {
            refuse(chain.transport_socket.is_some(), "transport_socket")?;
            let [Filter { config_type: Some(ConfigType::TypedConfig(any)), .. }] =
                chain.filters.as_slice()
            else {
                return Err(Fault::at("filters", "must be one `tcp_proxy`"));
            };
            tcp::chain(&message.name, &chain.name, chain.filter_chain_match.as_ref(), any)
                .map_err(|fault| fault.under("filters[0]"))
        };
        of_chain().map_err(|fault| fault.under(&at))
    });
    specs.collect()
}

fn routes(message: &PbListener) -> Result<(RouteSource, Option<EscapedSlashes>), Fault> {
    if let Some(api) = &message.api_listener {
        let any = api.api_listener.as_ref();
        let any = any.ok_or_else(|| Fault::at("api_listener.api_listener", "must be set"))?;
        return connection_manager(any).map_err(|fault| fault.under("api_listener.api_listener"));
    }
    let (at, chain) = match (message.filter_chains.first(), &message.default_filter_chain) {
        (Some(chain), _) => ("filter_chains[0]", chain),
        (None, Some(chain)) => ("default_filter_chain", chain),
        (None, None) => return Err(Fault::at("filter_chains", "must not be empty")),
    };
    refuse(message.filter_chains.len() > 1, "filter_chains[1]")?;
    if chain.transport_socket.is_some() {
        return Err(Fault::at(
            format!("{at}.transport_socket"),
            "transport_socket.typed_config: must be set",
        ));
    }
    let Some(filter) = chain.filters.last() else {
        return Err(Fault::at(format!("{at}.filters"), "must not be empty"));
    };
    let last = format!("{at}.filters[{}]", chain.filters.len() - 1);
    refuse(chain.filters.len() > 1, &format!("{at}.filters[0]"))?;
    match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) => {
            connection_manager(any).map_err(|fault| fault.under("typed_config").under(&last))
        }
        Some(ConfigType::ConfigDiscovery(_)) => Err(unsupported("config_discovery").under(&last)),
        None => Err(Fault::at("typed_config", "must be set").under(&last)),
    }
}

fn connection_manager(any: &Any) -> Result<(RouteSource, Option<EscapedSlashes>), Fault> {
    let manager: HttpConnectionManager =
        unpack(any, CONNECTION_MANAGER).map_err(|error| Fault::at("", error.to_string()))?;
    http_filters(&manager.http_filters)?;
    let escaped_slashes = escaped_slashes(manager.path_with_escaped_slashes_action())?;
    Ok((route_source(&manager)?, escaped_slashes))
}

fn escaped_slashes(action: PathWithEscapedSlashesAction) -> Result<Option<EscapedSlashes>, Fault> {
    match action {
        PathWithEscapedSlashesAction::ImplementationSpecificDefault => Ok(None),
        PathWithEscapedSlashesAction::KeepUnchanged => Ok(Some(EscapedSlashes::Keep)),
        PathWithEscapedSlashesAction::RejectRequest => Ok(Some(EscapedSlashes::Reject)),
        PathWithEscapedSlashesAction::UnescapeAndForward => Ok(Some(EscapedSlashes::Unescape)),
        PathWithEscapedSlashesAction::UnescapeAndRedirect => {
            Err(Fault::at("path_with_escaped_slashes_action", "redirects are not supported"))
        }
    }
}

fn route_source(manager: &HttpConnectionManager) -> Result<RouteSource, Fault> {
    match &manager.route_specifier {
        Some(RouteSpecifier::Rds(rds)) => {
            over_ads("rds.config_source", rds.config_source.as_ref())?;
            if rds.route_config_name.is_empty() {
                return Err(Fault::at("rds.route_config_name", "must be set"));
            }
            Ok(RouteSource::Rds(rds.route_config_name.as_str().into()))
        }
        Some(RouteSpecifier::RouteConfig(inline)) => {
            let inline = route_config(inline).map_err(|fault| fault.under("route_config"))?;
            if inline.vhds {
                return Err(Fault::at("vhds", "only a RouteConfiguration of its own may have it")
                    .under("route_config"));
            }
            Ok(RouteSource::Inline(Box::new(inline)))
        }
        Some(RouteSpecifier::ScopedRoutes(_)) => Err(unsupported("scoped_routes")),
        None => Err(Fault::at("rds", "must be set")),
    }
}

/// A fault for all requests of a listener is not served: routes and virtual hosts can say theirs.
fn makes_no_fault(filter: &HttpFilter) -> bool {
    let Some(http_filter::ConfigType::TypedConfig(any)) = &filter.config_type else { return false };
    any.value.is_empty()
}

fn http_filters(filters: &[HttpFilter]) -> Result<(), Fault> {
    for (i, filter) in filters.iter().enumerate() {
        let type_url = match &filter.config_type {
            Some(http_filter::ConfigType::TypedConfig(any)) => any.type_url.as_str(),
            Some(http_filter::ConfigType::ConfigDiscovery(_)) => "config_discovery",
            None => "",
        };
        let router = type_url.ends_with(ROUTER);
        let last = i + 1 == filters.len();
        let at = format!("http_filters[{i}]");
        if last && !router {
            return Err(Fault::at(at, "the last filter must be the router"));
        }
        if !last && router {
            return Err(Fault::at(at, "the router must be the last filter"));
        }
        let known = type_url.ends_with(FAULT) && makes_no_fault(filter);
        if !router && !known && !filter.is_optional && !filter.disabled {
            let reason = format!(
                "filter {:?} ({type_url}) is not supported and not marked optional",
                filter.name
            );
            return Err(Fault::at(at, reason));
        }
    }
    if filters.is_empty() {
        return Err(Fault::at("http_filters", "must end with the router"));
    }
    Ok(())
}
