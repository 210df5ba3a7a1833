//! `RouteMatch`, and which of two matches decides.

use std::cmp::Reverse;

use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};

use crate::config::mesh::{Match, PathMatch, ValueMatch};

/// Kinds of path, the one that decides first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathRank {
    Exact,
    /// The longer one first.
    Prefix(Reverse<usize>),
    /// The Gateway API leaves the place of expressions open. Behind prefixes, but not behind the
    /// prefix of everything, which would leave them nothing.
    Regex(Reverse<usize>),
    Everything,
}

/// The order of the Gateway API: path, method, number of headers, number of query parameters. The
/// least one decides.
pub(super) fn precedence(matched: &Match) -> impl Ord + use<> {
    let path = match &matched.path {
        PathMatch::Exact(_) => PathRank::Exact,
        PathMatch::Prefix(prefix) => match prefix.trim_end_matches('/').len() {
            0 => PathRank::Everything,
            length => PathRank::Prefix(Reverse(length)),
        },
        PathMatch::Regex(expression) => PathRank::Regex(Reverse(expression.len())),
    };
    let method = Reverse(matched.method.is_some());
    (path, method, Reverse(matched.headers.len()), Reverse(matched.query.len()))
}

pub(super) fn compile(matched: &Match) -> pb::RouteMatch {
    let method = matched.method.iter().map(|method| {
        let exact = ValueMatch::Exact(method.clone());
        header(":method", &exact)
    });
    let headers = matched.headers.iter().map(|(name, value)| header(name, value));
    pb::RouteMatch {
        path_specifier: Some(path(&matched.path)),
        headers: method.chain(headers).collect(),
        query_parameters: matched.query.iter().map(|(name, value)| query(name, value)).collect(),
        ..pb::RouteMatch::default()
    }
}

/// Prefixes go by whole segments: `/a` holds `/a` and `/a/b`, not `/ab`. Envoy wants them without
/// a slash at the end.
fn path(path: &PathMatch) -> PathSpecifier {
    match path {
        PathMatch::Exact(path) => PathSpecifier::Path(path.clone()),
        PathMatch::Prefix(prefix) => match prefix.trim_end_matches('/') {
            "" => PathSpecifier::Prefix("/".to_owned()),
            prefix => PathSpecifier::PathSeparatedPrefix(prefix.to_owned()),
        },
        PathMatch::Regex(expression) => PathSpecifier::SafeRegex(regex(expression)),
    }
}

pub(super) fn header(name: &str, value: &ValueMatch) -> pb::HeaderMatcher {
    pb::HeaderMatcher {
        name: name.to_ascii_lowercase(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(string(value))),
        ..pb::HeaderMatcher::default()
    }
}

fn query(name: &str, value: &ValueMatch) -> pb::QueryParameterMatcher {
    pb::QueryParameterMatcher {
        name: name.to_owned(),
        query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(string(
            value,
        ))),
    }
}

fn string(value: &ValueMatch) -> StringMatcher {
    let pattern = match value {
        ValueMatch::Exact(value) => MatchPattern::Exact(value.clone()),
        // Envoy refuses an empty expression, which only an empty value matches.
        ValueMatch::Regex(expression) if expression.is_empty() => {
            MatchPattern::Exact(String::new())
        }
        ValueMatch::Regex(expression) => MatchPattern::SafeRegex(regex(expression)),
    };
    StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() }
}

/// An expression that must match the whole of a value.
pub(super) fn regex(expression: &str) -> RegexMatcher {
    RegexMatcher { regex: expression.to_owned(), ..RegexMatcher::default() }
}
