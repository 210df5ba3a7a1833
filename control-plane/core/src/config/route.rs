//! Checks of a `Route`: rules, matches, times.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use segue_proto::config::v1::path_match::Type as PathType;
use segue_proto::config::v1::split_by::Key;
use segue_proto::config::v1::{
    Protocol, RouteMatch, RouteRetry, RouteRule, RouteSpec, RouteTimeouts, SplitBy, ValueMatch,
};
use segue_shared::ids::ServiceName;

use super::format::{self, quoted};
use super::lookup::{Scope, Services};
use super::time::to_duration;
use super::{backend, mesh, route_filter, tcp_route};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
const DEFAULT_BACKOFF: Duration = Duration::from_millis(25);
const DEFAULT_ATTEMPTS: u32 = 1;
/// The service and its route.
pub(super) fn check(
    scope: &mut Scope<'_>,
    services: &Services<'_>,
    sessions: &OrdMap<ServiceName, Arc<mesh::Sessions>>,
    spec: &RouteSpec,
) -> Option<(ServiceName, mesh::Route)> {
    let target = scope.target(services, spec.target_ref.as_ref(), "spec.targetRef");
    let keys = target.as_ref().and_then(|target| sessions.get(target)).map(|it| &*it.keys);
    let split_by = check_split(scope, spec.split_by.as_ref(), keys);
    let mut names = BTreeSet::new();
    let mut rules = Vec::with_capacity(spec.rules.len());
    for (i, rule) in spec.rules.iter().enumerate() {
        let path = format!("spec.rules[{i}]");
        if !rule.name.is_empty() && !names.insert(rule.name.as_str()) {
            scope.fault(
                &format!("{path}.name"),
                format!("the name `{}` is taken", rule.name),
                "give each rule its own name",
            );
        }
        rules.push(check_rule(scope, services, rule, i, &path));
    }
    if let Some(target) = &target
        && services.spec(target).is_some_and(|it| it.protocol() == Protocol::Tcp)
    {
        tcp_route::check(scope, target, spec);
    }
    let name = ServiceName::new(scope.key.namespace.clone(), scope.key.name.clone());
    Some((target?, mesh::Route { name, split_by, rules }))
}

fn check_split(
    scope: &mut Scope<'_>,
    split: Option<&SplitBy>,
    session_keys: Option<&[mesh::SessionKey]>,
) -> mesh::SplitBy {
    let by_session = |keys: &[mesh::SessionKey]| {
        keys.iter().find_map(|key| match key {
            mesh::SessionKey::Header(name) => Some(mesh::SplitBy::Header(name.clone())),
            mesh::SessionKey::Cookie(name) => Some(mesh::SplitBy::Cookie(name.clone())),
            mesh::SessionKey::Mcp | mesh::SessionKey::Other => None,
        })
    };
    match split.and_then(|split| split.key.as_ref()) {
        Some(Key::Header(name)) => mesh::SplitBy::Header(name.to_ascii_lowercase()),
        Some(Key::Cookie(name)) => mesh::SplitBy::Cookie(name.clone()),
        Some(Key::Random(_)) => mesh::SplitBy::Random,
        Some(Key::Session(_)) if session_keys.is_none() => {
            scope.fault(
                "spec.splitBy.session",
                "the service has no ContextPolicy that says what a session is",
                "write a ContextPolicy, or split by header or cookie",
            );
            mesh::SplitBy::Random
        }
        Some(Key::Session(_)) | None => {
            session_keys.and_then(by_session).unwrap_or(mesh::SplitBy::Random)
        }
    }
}

fn check_rule(
    scope: &mut Scope<'_>,
    services: &Services<'_>,
    rule: &RouteRule,
    index: usize,
    path: &str,
) -> mesh::Rule {
    let mut matches: Vec<mesh::Match> = rule
        .matches
        .iter()
        .enumerate()
        .map(|(i, it)| check_match(scope, it, &format!("{path}.matches[{i}]")))
        .collect();
    if matches.is_empty() {
        matches.push(every_request());
    }
    let filters = route_filter::check(scope, services, rule, &matches, path);
    let backends = backend::check(scope, services, rule, filters.redirect.is_some(), path);
    let (timeout, try_timeout) = check_timeouts(scope, rule.timeouts.as_ref(), path);
    let hedge_after = rule.retry.as_ref().and_then(|retry| retry.hedge_after).map(to_duration);
    check_hedge(scope, hedge_after, timeout, rule.timeouts.as_ref(), path);
    mesh::Rule {
        name: if rule.name.is_empty() { format!("rule-{index}") } else { rule.name.clone() },
        matches,
        filters,
        backends,
        timeout,
        try_timeout,
        stream_idle: rule.timeouts.and_then(|it| it.stream_idle).map(to_duration),
        retry: rule.retry.as_ref().and_then(retry),
    }
}

fn every_request() -> mesh::Match {
    mesh::Match {
        path: mesh::PathMatch::Prefix("/".to_owned()),
        headers: Vec::new(),
        query: Vec::new(),
        method: None,
    }
}

fn check_match(scope: &mut Scope<'_>, it: &RouteMatch, path: &str) -> mesh::Match {
    let mut checked = every_request();
    if let Some(condition) = &it.path {
        let value_path = format!("{path}.path.value");
        let value = condition.value.clone();
        checked.path = match condition.r#type() {
            PathType::RegularExpression => {
                check_regex(scope, &value, &value_path);
                mesh::PathMatch::Regex(value)
            }
            PathType::Exact => {
                check_path(scope, &value, &value_path);
                mesh::PathMatch::Exact(value)
            }
            PathType::PathPrefix | PathType::Unspecified => {
                check_path(scope, &value, &value_path);
                // `/a/` and `/a` match the same by whole segments.
                let bare = value.trim_end_matches('/');
                mesh::PathMatch::Prefix(if bare.is_empty() { "/".into() } else { bare.into() })
            }
        };
    }
    for (i, header) in it.headers.iter().enumerate() {
        let value = check_value(
            scope,
            header.r#type(),
            &header.value,
            &format!("{path}.headers[{i}].value"),
        );
        checked.headers.push((header.name.to_ascii_lowercase(), value));
    }
    for (i, param) in it.query_params.iter().enumerate() {
        let value = check_value(
            scope,
            param.r#type(),
            &param.value,
            &format!("{path}.queryParams[{i}].value"),
        );
        checked.query.push((param.name.clone(), value));
    }
    checked.method = (!it.method.is_empty()).then(|| it.method.clone());
    checked
}

fn check_value(
    scope: &mut Scope<'_>,
    kind: ValueMatch,
    value: &str,
    path: &str,
) -> mesh::ValueMatch {
    if kind == ValueMatch::RegularExpression {
        check_regex(scope, value, path);
        mesh::ValueMatch::Regex(value.to_owned())
    } else {
        mesh::ValueMatch::Exact(value.to_owned())
    }
}

fn check_regex(scope: &mut Scope<'_>, value: &str, path: &str) {
    if let Err(bad) = format::regex(value) {
        scope.fault(path, bad.message, bad.hint);
    }
}

/// A path that a request can have after it was made canonical, else the match would never hold.
fn check_path(scope: &mut Scope<'_>, value: &str, path: &str) {
    let lower = value.to_ascii_lowercase();
    let never = ["//", "/./", "/../", "%2f", "?", "#"]
        .into_iter()
        .find(|part| lower.contains(part))
        .or_else(|| ["/.", "/.."].into_iter().find(|end| lower.ends_with(end)));
    if !value.starts_with('/') {
        scope.fault(path, format!("{} is not a path", quoted(value)), "a path begins with '/'");
    } else if let Some(part) = never {
        scope.fault(
            path,
            format!("{} can match no request", quoted(value)),
            format!("remove `{part}`: paths are compared in their canonical form"),
        );
    } else if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        scope.fault(
            path,
            format!("{} can match no request", quoted(value)),
            "percent-encode what is not visible ASCII",
        );
    }
}

fn check_timeouts(
    scope: &mut Scope<'_>,
    timeouts: Option<&RouteTimeouts>,
    path: &str,
) -> (Option<Duration>, Option<Duration>) {
    let limit =
        |time: Option<prost_types::Duration>| time.map(to_duration).filter(|time| !time.is_zero());
    let Some(timeouts) = timeouts else { return (Some(DEFAULT_TIMEOUT), None) };
    let whole = match timeouts.request {
        Some(_) => limit(timeouts.request),
        None => Some(DEFAULT_TIMEOUT),
    };
    let one = limit(timeouts.backend_request);
    if let (Some(whole), Some(one)) = (whole, one)
        && one > whole
    {
        let (message, hint) = if timeouts.request.is_some() {
            ("one attempt may take longer than the request", "backendRequest is at most request")
        } else {
            ("one attempt may take longer than the request's default of 15s", "write request too")
        };
        scope.fault(&format!("{path}.timeouts.backendRequest"), message, hint);
    }
    (whole, one)
}

/// A second attempt beside the first must have time to answer, and the first one must not be cut.
fn check_hedge(
    scope: &mut Scope<'_>,
    after: Option<Duration>,
    timeout: Option<Duration>,
    timeouts: Option<&RouteTimeouts>,
    path: &str,
) {
    let Some(after) = after else { return };
    let at = format!("{path}.retry.hedgeAfter");
    if timeouts.is_some_and(|it| it.backend_request.is_some()) {
        let hint = "leave timeouts.backendRequest out: `request` limits all attempts together";
        scope.fault(&at, "an attempt that is hedged has no limit of its own", hint);
    } else if timeout.is_some_and(|timeout| after >= timeout) {
        let hint = "hedgeAfter is shorter than timeouts.request, 15s by default";
        scope.fault(&at, "the request is over before it is hedged", hint);
    }
}

fn retry(retry: &RouteRetry) -> Option<mesh::Retry> {
    let attempts = retry.attempts.unwrap_or(DEFAULT_ATTEMPTS);
    (attempts > 0).then(|| mesh::Retry {
        statuses: retry.codes.iter().filter_map(|&code| u16::try_from(code).ok()).collect(),
        attempts,
        backoff: retry.backoff.map_or(DEFAULT_BACKOFF, to_duration),
        hedge_after: retry.hedge_after.map(to_duration),
    })
}
