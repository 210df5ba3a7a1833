//! `RouteConfiguration`: one virtual host for each HTTP service.

use std::collections::BTreeSet;
use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use segue_shared::ids::{DEFAULT_NAMESPACE, ServiceName};
use segue_shared::xds_names::{self, OUTBOUND_ROUTES};

use super::forward;
use super::matching;
use crate::config::mesh::{
    Backend, Filters, Match, MeshConfig, PathMatch, Protocol, Rule, Service, SplitBy,
};

/// Limit of a request to a service without routes of its own.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) fn compile(config: &MeshConfig) -> pb::RouteConfiguration {
    // Two virtual hosts with one domain would make Envoy refuse all routes.
    let mut taken = BTreeSet::new();
    let virtual_hosts = config
        .services
        .values()
        .filter(|service| service.protocol != Protocol::Tcp)
        .map(|service| virtual_host(config, service, &mut taken))
        .collect();
    pb::RouteConfiguration {
        name: OUTBOUND_ROUTES.to_owned(),
        virtual_hosts,
        ignore_port_in_host_matching: true,
        ..pb::RouteConfiguration::default()
    }
}

/// Takes out what our sidecars cannot do yet. They would refuse all routes for one mirror; to go
/// without copies harms no caller, and whoever applies a mirror is told.
pub(super) fn leave_out_mirrors(routes: &mut pb::RouteConfiguration) {
    for route in routes.virtual_hosts.iter_mut().flat_map(|host| &mut host.routes) {
        if let Some(Action::Route(action)) = &mut route.action {
            action.request_mirror_policies.clear();
        }
    }
}

fn virtual_host(
    config: &MeshConfig,
    service: &Service,
    taken: &mut BTreeSet<String>,
) -> pb::VirtualHost {
    let domains = domains(service).into_iter().filter(|domain| taken.insert(domain.clone()));
    pb::VirtualHost {
        name: xds_names::virtual_host(&service.name),
        domains: domains.collect(),
        routes: routes(config, service),
        ..pb::VirtualHost::default()
    }
}

/// The names under which callers know a service.
fn domains(service: &Service) -> Vec<String> {
    let ServiceName { namespace, name } = &service.name;
    let mut domains = Vec::new();
    if namespace == DEFAULT_NAMESPACE {
        domains.push(name.clone());
    }
    domains.push(format!("{name}.{namespace}"));
    domains.extend(service.hosts.iter().map(|host| host.to_ascii_lowercase()));
    domains
}

/// Every match of every rule is a route of its own, in the order in which they decide.
fn routes(config: &MeshConfig, service: &Service) -> Vec<pb::Route> {
    let Some(route) = config.routes.get(&service.name) else {
        let rule = default_rule(service);
        let matched = &rule.matches;
        return matched
            .iter()
            .flat_map(|matched| compile_match(config, service, &SplitBy::Random, &rule, matched))
            .collect();
    };
    let mut pairs: Vec<(&Rule, &Match)> = route
        .rules
        .iter()
        .flat_map(|rule| rule.matches.iter().map(move |matched| (rule, matched)))
        .collect();
    // Stable: what is equal keeps the order in which it is written.
    pairs.sort_by_cached_key(|(_, matched)| matching::precedence(matched));
    pairs
        .into_iter()
        .flat_map(|(rule, matched)| compile_match(config, service, &route.split_by, rule, matched))
        .collect()
}

/// A service without routes: everything goes to its default version.
fn default_rule(service: &Service) -> Rule {
    let everything = Match {
        path: PathMatch::Prefix("/".to_owned()),
        headers: Vec::new(),
        query: Vec::new(),
        method: None,
    };
    let backend = Backend {
        service: service.name.clone(),
        version: service.default_version.clone(),
        weight: 1,
    };
    Rule {
        name: String::new(),
        matches: vec![everything],
        filters: Filters::default(),
        backends: vec![backend],
        timeout: Some(REQUEST_TIMEOUT),
        try_timeout: None,
        retry: None,
    }
}

/// One route, or two where a prefix is taken away: the prefix itself, and what lies below it.
fn compile_match(
    config: &MeshConfig,
    service: &Service,
    split_by: &SplitBy,
    rule: &Rule,
    matched: &Match,
) -> Vec<pb::Route> {
    let route = compile_route(config, service, split_by, rule, matched);
    let Some(prefix) = forward::removed_prefix(rule, matched) else { return vec![route] };
    let paths =
        [PathSpecifier::Path(prefix.to_owned()), PathSpecifier::Prefix(format!("{prefix}/"))];
    let at = |path| {
        let mut route = route.clone();
        if let Some(matched) = &mut route.r#match {
            matched.path_specifier = Some(path);
        }
        route
    };
    paths.into_iter().map(at).collect()
}

fn compile_route(
    config: &MeshConfig,
    service: &Service,
    split_by: &SplitBy,
    rule: &Rule,
    matched: &Match,
) -> pb::Route {
    let request = forward::header_edits(&rule.filters.request_headers);
    let response = forward::header_edits(&rule.filters.response_headers);
    let decision = forward::decide(config, service, split_by, rule, matched);
    pb::Route {
        name: rule.name.clone(),
        r#match: Some(matching::compile(matched)),
        action: Some(decision.action),
        // One entry, because the order of several would not be fixed.
        typed_per_filter_config: decision
            .split
            .map(|split| (xds_names::SPLIT_FILTER.to_owned(), super::extension::optional(&split)))
            .into_iter()
            .collect(),
        request_headers_to_add: request.add,
        request_headers_to_remove: request.remove,
        response_headers_to_add: response.add,
        response_headers_to_remove: response.remove,
        ..pb::Route::default()
    }
}
