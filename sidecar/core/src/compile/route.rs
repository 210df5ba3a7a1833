//! `RouteConfiguration` and `VirtualHost`.
//!
//! | field | taken |
//! |---|---|
//! | `virtual_hosts[].{name, domains, routes, retry_policy}`, `ignore_port_in_host_matching` | yes |
//! | `{request,response}_headers_to_{add,remove}` on all three levels, `most_specific_header_mutations_wins` | yes |
//! | `typed_per_filter_config` | see `extension.rs`; a split counts on a route only |
//! | `vhds`, `vhost_header`, `require_tls`, `matcher`, `request_mirror_policies`, `ignore_path_parameters_in_path_matching`, `route_specifiers` | refused |
//! | `rate_limits`, `cors`, `virtual_clusters`, `validate_clusters`, `metadata`, buffer limits, attempt counts, `internal_only_headers`, `cluster_specifier_plugins` | ignored: they tune, or do nothing without a filter |

use std::collections::HashSet;
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3::{
    Route as PbRoute, RouteConfiguration, VirtualHost as PbVirtualHost,
};

use super::action::{Inherited, action};
use super::cluster_names::ClusterNames;
use super::extension::filter_configs;
use super::field::refuse;
use super::header::{header_edits, merged};
use super::route_match::route_matcher;
use crate::reject::Fault;
use crate::snapshot::{HeaderEdits, Route, RouteTable, VirtualHost};

/// A route configuration whose table names clusters by their place in `clusters`.
#[derive(Debug)]
pub struct RouteConfig {
    pub name: Arc<str>,
    pub table: Arc<RouteTable>,
    /// The clusters that routes name, each once, in the order of [`ClusterIndex`]. The tables of a
    /// snapshot begin with them, so that routes need no second look when clusters change.
    pub clusters: Vec<Arc<str>>,
}

/// Header edits of one level, both ways.
struct Level {
    request: HeaderEdits,
    response: HeaderEdits,
}

pub(crate) fn route_config(message: &RouteConfiguration) -> Result<RouteConfig, Fault> {
    refuse(message.vhds.is_some(), "vhds")?;
    refuse(!message.vhost_header.is_empty(), "vhost_header")?;
    refuse(!message.request_mirror_policies.is_empty(), "request_mirror_policies")?;
    refuse(
        message.ignore_path_parameters_in_path_matching,
        "ignore_path_parameters_in_path_matching",
    )?;
    refuse(!message.route_specifiers.is_empty(), "route_specifiers")?;
    filter_configs(&message.typed_per_filter_config)?;
    let level = Level {
        request: header_edits(
            "request",
            &message.request_headers_to_add,
            &message.request_headers_to_remove,
        )?,
        response: header_edits(
            "response",
            &message.response_headers_to_add,
            &message.response_headers_to_remove,
        )?,
    };
    let mut config = Compilation {
        level,
        specific_last: message.most_specific_header_mutations_wins,
        names: ClusterNames::default(),
    };
    let ignore_port = message.ignore_port_in_host_matching;
    let mut table = RouteTable { ignore_port, ..RouteTable::default() };
    let mut names = HashSet::new();
    for (i, host) in message.virtual_hosts.iter().enumerate() {
        let at = format!("virtual_hosts[{i}]");
        if !names.insert(host.name.as_str()) {
            let reason = format!("{:?} is the name of another virtual host too", host.name);
            return Err(Fault::at("name", reason).under(&at));
        }
        let compiled = config.virtual_host(host).map_err(|fault| fault.under(&at))?;
        let compiled = Arc::new(compiled);
        if host.domains.is_empty() {
            return Err(Fault::at("domains", "must not be empty").under(&at));
        }
        for (j, domain) in host.domains.iter().enumerate() {
            table.insert(domain, Arc::clone(&compiled)).map_err(|error| {
                Fault::at(format!("domains[{j}]"), error.to_string()).under(&at)
            })?;
        }
    }
    Ok(RouteConfig {
        name: message.name.as_str().into(),
        table: Arc::new(table),
        clusters: config.names.into_names(),
    })
}

/// What the routes of one configuration share while they are compiled.
struct Compilation {
    level: Level,
    specific_last: bool,
    names: ClusterNames,
}

impl Compilation {
    fn virtual_host(&mut self, host: &PbVirtualHost) -> Result<VirtualHost, Fault> {
        refuse(host.matcher.is_some(), "matcher")?;
        refuse(host.require_tls != 0, "require_tls")?;
        refuse(!host.request_mirror_policies.is_empty(), "request_mirror_policies")?;
        refuse(!host.route_specifiers.is_empty(), "route_specifiers")?;
        refuse(host.retry_policy_typed_config.is_some(), "retry_policy_typed_config")?;
        filter_configs(&host.typed_per_filter_config)?;
        let level = Level {
            request: header_edits(
                "request",
                &host.request_headers_to_add,
                &host.request_headers_to_remove,
            )?,
            response: header_edits(
                "response",
                &host.response_headers_to_add,
                &host.response_headers_to_remove,
            )?,
        };
        let inherited = Inherited { retry: host.retry_policy.as_ref(), salt: &host.name };
        let mut routes = Vec::with_capacity(host.routes.len());
        for (i, route) in host.routes.iter().enumerate() {
            let compiled = self
                .route(route, &level, &inherited)
                .map_err(|fault| fault.under(&format!("routes[{i}]")))?;
            routes.push(Arc::new(compiled));
        }
        Ok(VirtualHost { name: host.name.as_str().into(), routes })
    }

    fn route(
        &mut self,
        route: &PbRoute,
        host: &Level,
        inherited: &Inherited<'_>,
    ) -> Result<Route, Fault> {
        let matcher = route.r#match.as_ref().ok_or_else(|| Fault::at("match", "must be set"))?;
        let matcher = route_matcher(matcher).map_err(|fault| fault.under("match"))?;
        refuse(!route.route_specifiers.is_empty(), "route_specifiers")?;
        let split = filter_configs(&route.typed_per_filter_config)?;
        let request = header_edits(
            "request",
            &route.request_headers_to_add,
            &route.request_headers_to_remove,
        )?;
        let response = header_edits(
            "response",
            &route.response_headers_to_add,
            &route.response_headers_to_remove,
        )?;
        let action =
            action(route.action.as_ref(), &matcher.path, split, inherited, &mut self.names)?;
        Ok(Route {
            name: route.name.as_str().into(),
            matcher,
            action,
            request_headers: self.in_order([&request, &host.request, &self.level.request]),
            response_headers: self.in_order([&response, &host.response, &self.level.response]),
        })
    }

    /// The last edit of a header wins: by default that of the configuration, as in Envoy.
    fn in_order(&self, levels: [&HeaderEdits; 3]) -> HeaderEdits {
        if self.specific_last {
            merged(levels.into_iter().rev())
        } else {
            merged(levels.into_iter())
        }
    }
}
