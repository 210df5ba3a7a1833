//! `RouteConfiguration` and `VirtualHost`.
//!
//! | field | taken |
//! |---|---|
//! | `virtual_hosts[].{name, domains, routes, retry_policy}`, `ignore_port_in_host_matching` | yes |
//! | `{request,response}_headers_to_{add,remove}` on all three levels, `most_specific_header_mutations_wins` | yes |
//! | `typed_per_filter_config` | see `extension.rs`; a split counts on a route only |
//! | `vhds` over ADS | yes; header edits of the configuration are refused then |
//! | `vhost_header`, `require_tls`, `matcher`, `request_mirror_policies`, `ignore_path_parameters_in_path_matching`, `route_specifiers` | refused |
//! | `rate_limits`, `cors`, `virtual_clusters`, `validate_clusters`, `metadata`, buffer limits, attempt counts, `internal_only_headers`, `cluster_specifier_plugins` | ignored: they tune, or do nothing without a filter |

use std::collections::HashSet;
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3::{
    Route as PbRoute, RouteConfiguration, VirtualHost as PbVirtualHost,
};

use super::action::{Inherited, action};
use super::cluster_names::ClusterNames;
use super::extension::{FilterConfigs, filter_configs};
use super::field::{over_ads, refuse};
use super::header::{header_edits, merged};
use super::route_match::route_matcher;
use crate::reject::Fault;
use crate::snapshot::{Domain, HeaderEdits, InvalidDomain, Route};

/// A route configuration.
#[derive(Debug)]
pub struct RouteConfig {
    pub name: Arc<str>,
    pub ignore_port: bool,
    /// Whether virtual hosts come as resources of their own, besides those in `hosts`.
    pub vhds: bool,
    /// No two of them have one name or one domain.
    pub hosts: Vec<HostSpec>,
}

/// A virtual host whose routes name clusters by their place in `clusters`.
#[derive(Debug)]
pub struct HostSpec {
    pub name: Arc<str>,
    pub domains: Vec<Domain>,
    pub routes: Vec<Route>,
    /// The clusters that routes name, each once.
    pub clusters: Vec<Arc<str>>,
}

/// A virtual host that came as a resource of its own (VHDS).
#[derive(Debug)]
pub struct HostResource {
    /// Name of the resource.
    pub name: Arc<str>,
    /// The route configuration that it belongs to.
    pub configuration: Arc<str>,
    pub host: HostSpec,
}

/// Header edits of one level, both ways.
#[derive(Default)]
struct Level {
    request: HeaderEdits,
    response: HeaderEdits,
}

pub(crate) fn route_config(message: &RouteConfiguration) -> Result<RouteConfig, Fault> {
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
    if let Some(vhds) = &message.vhds {
        over_ads("config_source", vhds.config_source.as_ref())
            .map_err(|fault| fault.under("vhds"))?;
        // Hosts are compiled apart from the configuration, and not again when it changes.
        let none = HeaderEdits::default();
        refuse(level.request != none, "request_headers_to_add")?;
        refuse(level.response != none, "response_headers_to_add")?;
    }
    let config = Compilation { level, specific_last: message.most_specific_header_mutations_wins };
    let mut hosts = Vec::with_capacity(message.virtual_hosts.len());
    let (mut names, mut domains) = (HashSet::new(), HashSet::new());
    for (i, host) in message.virtual_hosts.iter().enumerate() {
        let at = format!("virtual_hosts[{i}]");
        if !names.insert(host.name.as_str()) {
            let reason = format!("{:?} is the name of another virtual host too", host.name);
            return Err(Fault::at("name", reason).under(&at));
        }
        let compiled = config.virtual_host(host).map_err(|fault| fault.under(&at))?;
        for (j, domain) in compiled.domains.iter().enumerate() {
            if !domains.insert(domain.clone()) {
                let reason = format!("\"{domain}\" belongs to another virtual host already");
                return Err(Fault::at(format!("domains[{j}]"), reason).under(&at));
            }
        }
        hosts.push(compiled);
    }
    Ok(RouteConfig {
        name: message.name.as_str().into(),
        ignore_port: message.ignore_port_in_host_matching,
        vhds: message.vhds.is_some(),
        hosts,
    })
}

/// A virtual host as a resource, whose name is `<route configuration>/<name of the host>`, as with
/// our control plane, or the name of the host itself, `<route configuration>/<anything>`.
pub(crate) fn host_resource(name: &str, message: &PbVirtualHost) -> Result<HostResource, Fault> {
    let (before, own) = (name.strip_suffix(message.name.as_str()), message.name.as_str());
    let configuration = match before.and_then(|before| before.strip_suffix('/')) {
        Some(configuration) if !own.is_empty() => configuration,
        _ if name == own => name.rsplit_once('/').map_or("", |(configuration, _)| configuration),
        _ => return Err(Fault::at("name", format!("is {own:?}, was sent as {name:?}"))),
    };
    if configuration.is_empty() {
        let reason = "the resource must be named <route configuration>/<virtual host>";
        return Err(Fault::at("name", reason));
    }
    let host = Compilation { level: Level::default(), specific_last: false };
    let host = host.virtual_host(message)?;
    let mut domains = HashSet::new();
    for (i, domain) in host.domains.iter().enumerate() {
        if !domains.insert(domain) {
            return Err(Fault::at(format!("domains[{i}]"), format!("\"{domain}\" comes twice")));
        }
    }
    Ok(HostResource { name: name.into(), configuration: configuration.into(), host })
}

/// What the routes of one configuration share while they are compiled.
struct Compilation {
    level: Level,
    specific_last: bool,
}

impl Compilation {
    fn virtual_host(&self, host: &PbVirtualHost) -> Result<HostSpec, Fault> {
        refuse(host.matcher.is_some(), "matcher")?;
        refuse(host.require_tls != 0, "require_tls")?;
        refuse(!host.request_mirror_policies.is_empty(), "request_mirror_policies")?;
        refuse(!host.route_specifiers.is_empty(), "route_specifiers")?;
        refuse(host.retry_policy_typed_config.is_some(), "retry_policy_typed_config")?;
        let fault = filter_configs(&host.typed_per_filter_config)?.fault.within(None);
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
        let retry = host.retry_policy.as_ref();
        let hedge = host.hedge_policy.as_ref();
        let inherited = Inherited { retry, hedge, salt: &host.name, fault };
        let mut names = ClusterNames::default();
        let mut routes = Vec::with_capacity(host.routes.len());
        for (i, route) in host.routes.iter().enumerate() {
            let compiled = self
                .route(route, &level, &inherited, &mut names)
                .map_err(|fault| fault.under(&format!("routes[{i}]")))?;
            routes.push(compiled);
        }
        if host.domains.is_empty() {
            return Err(Fault::at("domains", "must not be empty"));
        }
        let domain = |(i, domain): (usize, &String)| {
            domain.parse().map_err(|error: InvalidDomain| {
                Fault::at(format!("domains[{i}]"), error.to_string())
            })
        };
        Ok(HostSpec {
            name: host.name.as_str().into(),
            domains: host.domains.iter().enumerate().map(domain).collect::<Result<_, _>>()?,
            routes,
            clusters: names.into_names(),
        })
    }

    fn route(
        &self,
        route: &PbRoute,
        host: &Level,
        inherited: &Inherited<'_>,
        names: &mut ClusterNames,
    ) -> Result<Route, Fault> {
        let matcher = route.r#match.as_ref().ok_or_else(|| Fault::at("match", "must be set"))?;
        let matcher = route_matcher(matcher).map_err(|fault| fault.under("match"))?;
        refuse(!route.route_specifiers.is_empty(), "route_specifiers")?;
        let FilterConfigs { split, fault } = filter_configs(&route.typed_per_filter_config)?;
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
        let action = action(route.action.as_ref(), &matcher.path, split, inherited, names)?;
        Ok(Route {
            name: route.name.as_str().into(),
            matcher,
            action,
            fault: fault.within(inherited.fault.as_ref()),
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
