//! Tables of routes, a line each: `ignore-port`; `host DOMAIN`, which begins a virtual host; of its
//! routes `exact PATH`, `prefix PATH`, `segment PATH`, `regex EXPRESSION` and `method METHOD`, which
//! narrows the route before it; and `get PATH HOST`, a request.

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use regex::bytes::RegexBuilder;
use segue_sidecar_core::canonical::{CanonHost, CanonPath, EscapedSlashes, rule_path};
use segue_sidecar_core::routing::RequestParts;
use segue_sidecar_core::snapshot::{
    DirectResponse, Domain, HeaderEdits, PathMatcher, Route, RouteAction, RouteMatcher, RouteTable,
    VirtualHost,
};

use crate::input::{lines, word};

/// So many routes that match nothing make any host one that is worth an index.
const PADDING: usize = 9;
const MOST_REGEX_BYTES: usize = 1 << 14;

#[derive(Default)]
struct Written<'a> {
    ignore_port: bool,
    hosts: Vec<(&'a str, Vec<Rule<'a>>)>,
    requests: Vec<(&'a [u8], &'a [u8])>,
}

#[derive(Clone, Copy)]
struct Rule<'a> {
    kind: &'a [u8],
    text: &'a str,
    method: Option<&'a [u8]>,
}

pub fn check(bytes: &[u8]) {
    let written = read(bytes);
    let mut table = RouteTable { ignore_port: written.ignore_port, ..RouteTable::default() };
    let mut hosts: Vec<(Domain, Arc<VirtualHost>)> = Vec::new();
    for (domain, rules) in &written.hosts {
        let Ok(domain) = domain.parse::<Domain>() else { continue };
        assert_eq!(domain.to_string().parse(), Ok(domain.clone()), "a domain comes back");
        let host = Arc::new(indexed(rules));
        let is_new = hosts.iter().all(|(other, _)| *other != domain);
        assert_eq!(table.insert(&domain, Arc::clone(&host)), is_new, "a domain has one owner");
        if is_new {
            hosts.push((domain, host));
        }
    }
    for (path, host) in written.requests {
        let Ok(value) = HeaderValue::from_bytes(host) else { continue };
        let Ok(host) = CanonHost::of(value, 80) else { continue };
        let found = table.virtual_host_of(&host);
        let expected = by_rank(&hosts, &host, written.ignore_port);
        assert_eq!(found.map(Arc::as_ptr), expected.map(Arc::as_ptr), "{}", host.as_str());
        let Ok(path) = PathAndQuery::try_from(path) else { continue };
        let Ok(path) = CanonPath::of(path, EscapedSlashes::Keep) else { continue };
        for host in hosts.iter().map(|(_, host)| host) {
            first_of_all(host, &path);
        }
    }
}

/// The index finds what looking at all routes in their order finds.
fn first_of_all(host: &VirtualHost, path: &CanonPath) {
    let headers = HeaderMap::new();
    for method in [Method::GET, Method::POST] {
        let request = RequestParts::new(&method, path, &headers);
        let found = host.route(&request);
        let expected = host.routes().iter().find(|route| {
            let matcher = &route.matcher;
            matcher.method.as_ref().is_none_or(|wanted| *wanted == method)
                && meets(&matcher.path, path.matched())
        });
        assert_eq!(found.map(Arc::as_ptr), expected.map(Arc::as_ptr), "{method} {path:?}");
    }
}

fn meets(matcher: &PathMatcher, path: &str) -> bool {
    let segments = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    match matcher {
        PathMatcher::Exact(text) => path == &**text,
        PathMatcher::Prefix(text) => path.get(..text.len()) == Some(text),
        PathMatcher::SegmentPrefix(text) => segments(path).starts_with(&segments(text)),
        PathMatcher::Regex(regex) => regex.is_match(path.as_bytes()),
    }
}

/// Envoy's order, told by ranking every domain.
fn by_rank<'a>(
    hosts: &'a [(Domain, Arc<VirtualHost>)],
    host: &CanonHost,
    ignore_port: bool,
) -> Option<&'a Arc<VirtualHost>> {
    let seen = if ignore_port { host.name() } else { host.as_str() };
    // A default port that was written out is as good as none, but for a domain that has it.
    let written_out = host.named_default_port().map(|port| format!("{seen}:{port}"));
    let ranked = hosts.iter().filter_map(|(domain, found)| {
        let rank = match domain {
            Domain::Exact(name) if !ignore_port && Some(&**name) == written_out.as_deref() => {
                (4, 0)
            }
            Domain::Exact(name) if **name == *seen => (3, 0),
            Domain::Suffix(end) if seen.len() > end.len() && seen.ends_with(&**end) => {
                (2, end.len())
            }
            Domain::Prefix(start) if seen.len() > start.len() && seen.starts_with(&**start) => {
                (1, start.len())
            }
            Domain::Any => (0, 0),
            _ => return None,
        };
        Some((rank, found))
    });
    ranked.max_by_key(|(rank, _)| *rank).map(|(_, found)| found)
}

fn read(bytes: &[u8]) -> Written<'_> {
    let mut written = Written::default();
    for line in lines(bytes) {
        let (kind, rest) = word(line);
        if kind == b"ignore-port" {
            written.ignore_port = true;
        } else if kind == b"get" {
            written.requests.push(word(rest));
        }
        let Ok(text) = str::from_utf8(rest) else { continue };
        if kind == b"host" {
            written.hosts.push((text, Vec::new()));
        }
        let Some((_, rules)) = written.hosts.last_mut() else { continue };
        match kind {
            b"exact" | b"prefix" | b"segment" | b"regex" => {
                rules.push(Rule { kind, text, method: None });
            }
            b"method" => {
                if let Some(rule) = rules.last_mut() {
                    rule.method = Some(rest);
                }
            }
            _ => {}
        }
    }
    written
}

fn indexed(rules: &[Rule<'_>]) -> VirtualHost {
    let nothing = Rule { kind: b"exact", text: "matches nothing", method: None };
    let padding = std::iter::repeat_n(nothing, PADDING);
    let routes = rules.iter().copied().chain(padding).filter_map(route);
    VirtualHost::new("host", routes.map(Arc::new).collect())
}

fn route(rule: Rule<'_>) -> Option<Route> {
    let path = match rule.kind {
        b"exact" => PathMatcher::Exact(rule_path(rule.text)),
        b"prefix" => PathMatcher::Prefix(rule_path(rule.text)),
        // As the compiler takes them.
        b"segment" if rule.text.starts_with('/') && rule.text.len() > 1 => {
            let prefix = rule_path(rule.text);
            (!prefix.ends_with('/')).then_some(PathMatcher::SegmentPrefix(prefix))?
        }
        b"regex" => {
            let build = |text: &str| RegexBuilder::new(text).size_limit(MOST_REGEX_BYTES).build();
            build(rule.text).ok()?;
            PathMatcher::Regex(build(&format!(r"\A(?:{})\z", rule.text)).ok()?)
        }
        _ => return None,
    };
    let method = rule.method.and_then(|method| Method::from_bytes(method).ok());
    let matcher = RouteMatcher { path, method, headers: Vec::new(), query: Vec::new() };
    let answer = DirectResponse { status: StatusCode::OK, body: Box::default() };
    Some(Route {
        name: rule.text.into(),
        matcher,
        action: RouteAction::Direct(answer),
        fault: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    })
}
