//! What gRPC's own xDS clients take: a listener for each name that a call may be made to, and the
//! routes of its service as far as a gRPC call can match them.
//!
//! A gRPC call is a `POST` to `/service/method` without a query, so that a route for anything else
//! can be left out: it would never be taken. What a client cannot do (rewrites, changes of headers,
//! mirrors) is left out of the route. Clients refuse all routes of a service for one that does not
//! forward, so that what would be answered in place leads to a cluster without endpoints: the call
//! fails as `UNAVAILABLE`. (gRFC A28, A31, A44; grpc-js takes no other action than `route`.)

use std::time::Duration;

use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::retry_policy::RetryBackOff;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, MaxStreamDuration,
};
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::google::protobuf::UInt32Value;
use segue_shared::xds_names;

use super::extension::duration;
use super::matching::{self, regex};
use super::{listener, route, split};
use crate::config::mesh::{Match, MeshConfig, PathMatch, Retry, Rule, Service, SplitBy};

/// Name of the cluster without endpoints.
pub(super) const NOWHERE: &str = "grpc/nowhere";

/// A listener for each name of a service, with and without its port. Names with a wildcard are no
/// names that a client could ask for.
pub(super) fn listeners(service: &Service) -> Vec<Listener> {
    let routes = xds_names::grpc_routes(&service.name);
    let domains = route::domains(service).into_iter().filter(|domain| !domain.contains('*'));
    domains
        .flat_map(|domain| xds_names::grpc_listeners(&domain, service.port))
        .map(|name| listener::api(name, &routes))
        .collect()
}

/// The routes of a service.
pub(super) fn routes(config: &MeshConfig, service: &Service) -> pb::RouteConfiguration {
    let (_, rules) = route::rules(config, service);
    let pairs = route::in_order(&rules).into_iter();
    let mut routes: Vec<pb::Route> =
        pairs.filter_map(|(rule, matched)| compile_match(config, service, rule, matched)).collect();
    if routes.is_empty() {
        // A virtual host without routes is refused.
        let action = pb::RouteAction { cluster_specifier: Some(nowhere()), ..Default::default() };
        routes.push(pb::Route {
            r#match: Some(at(PathSpecifier::Prefix("/".to_owned()), Vec::new())),
            action: Some(Action::Route(action)),
            ..pb::Route::default()
        });
    }
    let host = pb::VirtualHost {
        name: xds_names::virtual_host(&service.name),
        domains: vec!["*".to_owned()],
        routes,
        ..pb::VirtualHost::default()
    };
    pb::RouteConfiguration {
        name: xds_names::grpc_routes(&service.name),
        virtual_hosts: vec![host],
        ..pb::RouteConfiguration::default()
    }
}

/// The route of a match, where a call can match it.
fn compile_match(
    config: &MeshConfig,
    service: &Service,
    rule: &Rule,
    matched: &Match,
) -> Option<pb::Route> {
    let is_post = matched.method.as_ref().is_none_or(|method| method == "POST");
    if !is_post || !matched.query.is_empty() {
        return None;
    }
    let headers = matched.headers.iter().map(|(name, value)| matching::header(name, value));
    Some(pb::Route {
        name: rule.name.clone(),
        r#match: Some(at(path(&matched.path)?, headers.collect())),
        action: Some(Action::Route(action(config, service, rule))),
        ..pb::Route::default()
    })
}

/// The path of a match that a call can have: `/service/method`.
fn path(path: &PathMatch) -> Option<PathSpecifier> {
    let (path, is_exact) = match path {
        PathMatch::Regex(expression) => return Some(PathSpecifier::SafeRegex(regex(expression))),
        PathMatch::Exact(path) => (path.as_str(), true),
        PathMatch::Prefix(path) => (path.trim_end_matches('/'), false),
    };
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match segments.as_slice() {
        [""] if !is_exact => Some(PathSpecifier::Prefix("/".to_owned())),
        [service] if !is_exact => Some(PathSpecifier::Prefix(format!("/{service}/"))),
        // No call goes below a method, so that its prefix is the method itself.
        [service, method] if !service.is_empty() && !method.is_empty() => {
            Some(PathSpecifier::Path(format!("/{service}/{method}")))
        }
        _ => None,
    }
}

fn at(path: PathSpecifier, headers: Vec<pb::HeaderMatcher>) -> pb::RouteMatch {
    pb::RouteMatch { path_specifier: Some(path), headers, ..pb::RouteMatch::default() }
}

/// Where a rule leads.
fn action(config: &MeshConfig, service: &Service, rule: &Rule) -> pb::RouteAction {
    let shares = split::shares(config, service, &rule.backends);
    let specifier = match shares.as_slice() {
        _ if rule.filters.redirect.is_some() => nowhere(),
        [] => nowhere(),
        [(cluster, _)] => ClusterSpecifier::Cluster(cluster.clone()),
        // Clients know no hash for splits.
        shares => {
            ClusterSpecifier::WeightedClusters(split::weighted_clusters(shares, &SplitBy::Random))
        }
    };
    pb::RouteAction {
        cluster_specifier: Some(specifier),
        max_stream_duration: rule.timeout.map(|timeout| MaxStreamDuration {
            max_stream_duration: Some(duration(timeout)),
            ..MaxStreamDuration::default()
        }),
        retry_policy: rule.retry.as_ref().and_then(retry_policy),
        ..pb::RouteAction::default()
    }
}

fn nowhere() -> ClusterSpecifier {
    ClusterSpecifier::Cluster(NOWHERE.to_owned())
}

/// Repeats after these failures. `None` where no status is one that clients repeat after; what
/// provably did not arrive they repeat anyway.
fn retry_policy(retry: &Retry) -> Option<pb::RetryPolicy> {
    // Of HTTP's statuses those that gRPC has a word for.
    let words = [
        (429, "resource-exhausted"),
        (499, "cancelled"),
        (500, "internal"),
        (503, "unavailable"),
        (504, "deadline-exceeded"),
    ];
    let words: Vec<&str> = words
        .into_iter()
        .filter(|(status, _)| retry.statuses.contains(status))
        .map(|(_, word)| word)
        .collect();
    // An interval of nothing is refused.
    let pause = retry.backoff.max(Duration::from_millis(1));
    (!words.is_empty() && retry.attempts > 0).then(|| pb::RetryPolicy {
        retry_on: words.join(","),
        num_retries: Some(UInt32Value { value: retry.attempts }),
        retry_back_off: Some(RetryBackOff {
            base_interval: Some(duration(pause)),
            ..RetryBackOff::default()
        }),
        ..pb::RetryPolicy::default()
    })
}
