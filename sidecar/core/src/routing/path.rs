//! From request to route: path, method, query.

use std::sync::Arc;

use crate::routing::RequestParts;
use crate::snapshot::{PathMatcher, QueryMatcher, Route, RouteMatcher, VirtualHost};

impl VirtualHost {
    /// The first route whose conditions all hold.
    pub fn route(&self, request: &RequestParts<'_>) -> Option<&Arc<Route>> {
        self.first(request.path, |route| route.matcher.matches(request))
    }
}

impl RouteMatcher {
    /// Whether all conditions hold.
    pub fn matches(&self, request: &RequestParts<'_>) -> bool {
        self.path.matches(request.path)
            && self.method.as_ref().is_none_or(|method| method == request.method)
            && self.headers.iter().all(|header| header.matches(request.headers))
            && self.query.iter().all(|parameter| parameter.matches(request.query))
    }
}

impl PathMatcher {
    /// Whether a path (without query) meets the condition.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Prefix(prefix) => path.starts_with(&**prefix),
            Self::SegmentPrefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Exact(exact) => path == &**exact,
            Self::Regex(regex) => regex.is_match(path.as_bytes()),
        }
    }
}

impl QueryMatcher {
    /// Whether the first parameter of the name meets the condition. Compared as it stands on the
    /// wire, percent-encoding included, as Envoy does.
    pub fn matches(&self, query: Option<&str>) -> bool {
        let parameters = query.unwrap_or_default().split('&');
        let mut pairs = parameters.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs
            .find(|(name, _)| !name.is_empty() && *name == &*self.name)
            .is_some_and(|(_, value)| self.value.matches(value.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;
    use crate::snapshot::ValueMatcher;

    #[test]
    fn paths_match_by_bytes_or_whole_segments() {
        let cases = [
            (PathMatcher::Prefix("/a".into()), ["/a", "/ab", "/a/b"].as_slice(), ["/", "/A"]),
            (PathMatcher::SegmentPrefix("/a".into()), &["/a", "/a/", "/a/b"], ["/ab", "/"]),
            (PathMatcher::Exact("/a".into()), &["/a"], ["/a/", "/ab"]),
        ];
        for (matcher, good, bad) in cases {
            for path in good {
                assert!(matcher.matches(path), "{matcher:?} {path}");
            }
            for path in bad {
                assert!(!matcher.matches(path), "{matcher:?} {path}");
            }
        }
    }

    #[test]
    fn the_first_query_parameter_of_a_name_counts() {
        let matcher =
            QueryMatcher { name: "v".into(), value: ValueMatcher::Exact(Box::from(&b"2"[..])) };
        for (query, expected) in [
            (Some("v=2"), true),
            (Some("a=1&v=2&b"), true),
            (Some("v=1&v=2"), false),
            (Some("vv=2"), false),
            (Some("v"), false),
            (None, false),
        ] {
            assert_eq!(matcher.matches(query), expected, "{query:?}");
        }
    }

    #[test]
    fn a_method_must_be_the_same() {
        let matcher = RouteMatcher {
            path: PathMatcher::Prefix("/".into()),
            method: Some(Method::POST),
            headers: Vec::new(),
            query: Vec::new(),
        };
        let headers = HeaderMap::new();
        for (method, expected) in [(Method::POST, true), (Method::GET, false)] {
            let request =
                RequestParts { method: &method, path: "/", query: None, headers: &headers };
            assert_eq!(matcher.matches(&request), expected);
        }
    }
}
