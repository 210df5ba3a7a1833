//! `RouteMatch`.
//!
//! | field | taken |
//! |---|---|
//! | `prefix`, `path`, `path_separated_prefix` | yes, in their case; spelled as `canonical` spells requests' paths, which are matched without parameters of segments |
//! | `safe_regex` | yes, as it is |
//! | `headers` | see `header.rs` |
//! | `query_parameters`: `string_match`, `present_match: true` | yes |
//! | `grpc` | yes, by content type |
//! | `runtime_fraction` | only 100 % |
//! | `case_sensitive: false`, `cookies`, `connect_matcher`, `path_match_policy`, `tls_context`, `dynamic_metadata`, `filter_state` | refused |

use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{QueryParameterMatcher, RouteMatch};
use http::header::CONTENT_TYPE;

use super::field::{bytes, refuse, regex, unsupported, value_matcher};
use super::header::{HeadMatcher, header_matcher};
use crate::canonical::rule_path;
use crate::reject::Fault;
use crate::snapshot::{HeaderMatcher, PathMatcher, QueryMatcher, RouteMatcher, ValueMatcher};

pub(crate) fn route_matcher(message: &RouteMatch) -> Result<RouteMatcher, Fault> {
    refuse(message.case_sensitive.as_ref().is_some_and(|value| !value.value), "case_sensitive")?;
    refuse(!message.cookies.is_empty(), "cookies")?;
    refuse(message.tls_context.is_some(), "tls_context")?;
    refuse(!message.dynamic_metadata.is_empty(), "dynamic_metadata")?;
    refuse(!message.filter_state.is_empty(), "filter_state")?;
    always(message)?;
    let mut matcher = RouteMatcher {
        path: path(message.path_specifier.as_ref())?,
        method: None,
        headers: Vec::with_capacity(message.headers.len()),
        query: Vec::with_capacity(message.query_parameters.len()),
    };
    for (i, header) in message.headers.iter().enumerate() {
        let at = format!("headers[{i}]");
        match header_matcher(header).map_err(|fault| fault.under(&at))? {
            HeadMatcher::Header(header) => matcher.headers.push(header),
            HeadMatcher::Method(method) => {
                if matcher.method.replace(method).is_some() {
                    return Err(Fault::at(at, "is a second condition on the method"));
                }
            }
        }
    }
    if message.grpc.is_some() {
        matcher.headers.push(HeaderMatcher {
            name: CONTENT_TYPE,
            value: ValueMatcher::Prefix(bytes("application/grpc")),
            invert: false,
            missing_is_empty: false,
        });
    }
    for (i, parameter) in message.query_parameters.iter().enumerate() {
        let parameter = query_matcher(parameter)
            .map_err(|fault| fault.under(&format!("query_parameters[{i}]")))?;
        matcher.query.push(parameter);
    }
    Ok(matcher)
}

fn path(specifier: Option<&PathSpecifier>) -> Result<PathMatcher, Fault> {
    match specifier {
        Some(PathSpecifier::Prefix(prefix)) => Ok(PathMatcher::Prefix(rule_path(prefix))),
        Some(PathSpecifier::Path(path)) => Ok(PathMatcher::Exact(rule_path(path))),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            if !prefix.starts_with('/') || prefix.len() < 2 || prefix.ends_with('/') {
                return Err(Fault::at(
                    "path_separated_prefix",
                    "must begin with '/', be longer, and not end with '/'",
                ));
            }
            Ok(PathMatcher::SegmentPrefix(rule_path(prefix)))
        }
        Some(PathSpecifier::SafeRegex(expression)) => {
            regex("safe_regex", expression).map(PathMatcher::Regex)
        }
        Some(PathSpecifier::ConnectMatcher(_)) => Err(unsupported("connect_matcher")),
        Some(PathSpecifier::PathMatchPolicy(_)) => Err(unsupported("path_match_policy")),
        None => Err(Fault::at("prefix", "a path specifier must be set")),
    }
}

/// A route that only a part of the requests may take is not served.
fn always(message: &RouteMatch) -> Result<(), Fault> {
    let Some(fraction) = &message.runtime_fraction else { return Ok(()) };
    let whole = fraction.default_value.as_ref().is_some_and(|fraction| {
        let parts = match fraction.denominator {
            1 => 10_000,
            2 => 1_000_000,
            _ => 100,
        };
        fraction.numerator >= parts
    });
    if whole { Ok(()) } else { Err(unsupported("runtime_fraction")) }
}

fn query_matcher(message: &QueryParameterMatcher) -> Result<QueryMatcher, Fault> {
    let value = match &message.query_parameter_match_specifier {
        Some(QueryParameterMatchSpecifier::StringMatch(text)) => {
            value_matcher(text).map_err(|fault| fault.under("string_match"))?
        }
        None | Some(QueryParameterMatchSpecifier::PresentMatch(true)) => ValueMatcher::Present,
        Some(QueryParameterMatchSpecifier::PresentMatch(false)) => {
            return Err(unsupported("present_match"));
        }
    };
    Ok(QueryMatcher { name: message.name.as_str().into(), value })
}
