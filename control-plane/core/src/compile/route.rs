//! `VirtualHost`: the routes of one HTTP service; and `RouteConfiguration`, which holds them.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use segue_shared::ids::{DEFAULT_NAMESPACE, ServiceName};
use segue_shared::xds_names::{self, OUTBOUND_ROUTES, type_urls};

use super::extension::ads;
use super::forward::{self, Destination};
use super::{NodeKind, fault, matching, session};
use crate::config::mesh::{Backend, Filters, Match, MeshConfig, PathMatch, Rule, Service, SplitBy};
use crate::snapshot::EncodedResource;

/// Limit of a request to a service without routes of its own.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Whether nodes of a kind get the routes of all services in one `RouteConfiguration`. Our sidecars
/// get those of each service as a resource of its own, so that a change of one costs one.
pub(super) fn are_inline(kind: NodeKind) -> bool {
    matches!(kind, NodeKind::Envoy { .. })
}

/// The routes of all services in one resource. Its virtual hosts are encoded already: a message's
/// encoding is that of its fields one after the other, so that nothing is encoded again.
pub(super) fn inline<'a>(hosts: impl Iterator<Item = &'a Bytes> + Clone) -> EncodedResource {
    const VIRTUAL_HOSTS: u32 = 2;
    let head = head().encode_to_vec();
    let bytes: usize = hosts.clone().map(|host| host.len() + 11).sum();
    let mut value = Vec::with_capacity(head.len() + bytes);
    value.extend_from_slice(&head);
    for host in hosts {
        encode_key(VIRTUAL_HOSTS, WireType::LengthDelimited, &mut value);
        encode_varint(host.len() as u64, &mut value);
        value.extend_from_slice(host);
    }
    EncodedResource::of_bytes(type_urls::ROUTE, OUTBOUND_ROUTES, &value)
}

/// The routes of services as resources of their own.
pub(super) fn by_vhds() -> pb::RouteConfiguration {
    pb::RouteConfiguration { vhds: Some(pb::Vhds { config_source: Some(ads()) }), ..head() }
}

fn head() -> pb::RouteConfiguration {
    pb::RouteConfiguration {
        name: OUTBOUND_ROUTES.to_owned(),
        ignore_port_in_host_matching: true,
        ..pb::RouteConfiguration::default()
    }
}

/// The routes of one service. No other one has any of its domains: `config::check` sees to it.
pub(super) fn virtual_host(
    config: &MeshConfig,
    service: &Service,
    kind: NodeKind,
) -> pb::VirtualHost {
    let filters = session::kept(config, service, kind);
    let filters = filters.into_iter().chain(fault::made(config, &service.name));
    pb::VirtualHost {
        name: xds_names::virtual_host(&service.name),
        domains: domains(service),
        routes: routes(config, service, kind),
        typed_per_filter_config: filters.into_iter().collect(),
        ..pb::VirtualHost::default()
    }
}

/// The names under which callers know a service.
pub fn domains(service: &Service) -> Vec<String> {
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
fn routes(config: &MeshConfig, service: &Service, kind: NodeKind) -> Vec<pb::Route> {
    let (split_by, rules) = rules(config, service);
    let of = Destination { config, service, split_by: &split_by, kind };
    let pairs = in_order(&rules).into_iter();
    pairs.flat_map(|(rule, matched)| compile_match(&of, rule, matched)).collect()
}

/// What a service declares of its routes, or what holds where it declares nothing.
pub(super) fn rules<'a>(
    config: &'a MeshConfig,
    service: &Service,
) -> (Cow<'a, SplitBy>, Cow<'a, [Rule]>) {
    match config.routes.get(&service.name) {
        Some(route) => (Cow::Borrowed(&route.split_by), Cow::Borrowed(&route.rules)),
        None => (Cow::Owned(SplitBy::Random), Cow::Owned(vec![default_rule(service)])),
    }
}

/// Every match of every rule, the one that decides first.
pub(super) fn in_order(rules: &[Rule]) -> Vec<(&Rule, &Match)> {
    let mut pairs: Vec<(&Rule, &Match)> = rules
        .iter()
        .flat_map(|rule| rule.matches.iter().map(move |matched| (rule, matched)))
        // Clients refuse an empty expression, which no path matches.
        .filter(|(_, matched)| matched.path != PathMatch::Regex(String::new()))
        .collect();
    // Stable: what is equal keeps the order in which it is written.
    pairs.sort_by_cached_key(|(_, matched)| matching::precedence(matched));
    pairs
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
        stream_idle: None,
        retry: None,
    }
}

/// One route, or two where a prefix is taken away: the prefix itself, and what lies below it.
fn compile_match(of: &Destination<'_>, rule: &Rule, matched: &Match) -> Vec<pb::Route> {
    let route = compile_route(of, rule, matched);
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

fn compile_route(of: &Destination<'_>, rule: &Rule, matched: &Match) -> pb::Route {
    let request = forward::header_edits(&rule.filters.request_headers);
    let response = forward::header_edits(&rule.filters.response_headers);
    let decision = forward::decide(of, rule, matched);
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
