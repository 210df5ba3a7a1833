//! Checks of a rule's filters: what changes on the way.

use std::collections::BTreeSet;

use segue_proto::config::v1::path_modifier::Type as PathType;
use segue_proto::config::v1::route_filter::Type;
use segue_proto::config::v1::{
    HeaderModifier, HeaderValue, PathModifier, RequestMirror, RequestRedirect, RouteFilter,
    RouteRule, UrlRewrite,
};

use super::format::{self, quoted};
use super::lookup::{Scope, Services};
use super::{backend, mesh};

/// Envoy refuses longer ones; its limit counts a `%` twice.
const MOST_VALUE_BYTES: usize = 8192;

const STATUSES: [u32; 5] = [301, 302, 303, 307, 308];
const DEFAULT_STATUS: u16 = 302;
const WHOLE: u16 = 10_000;
/// Headers that frame a message or belong to one connection (RFC 9110 section 7.6.1), and the host,
/// which `URLRewrite` changes.
const NOT_OURS: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// What the filters of a rule change. `matches` are the rule's own, already checked.
pub(super) fn check(
    scope: &mut Scope<'_>,
    services: &Services<'_>,
    rule: &RouteRule,
    matches: &[mesh::Match],
    path: &str,
) -> mesh::Filters {
    let mut filters = mesh::Filters::default();
    let mut seen = BTreeSet::new();
    for (i, filter) in rule.filters.iter().enumerate() {
        let path = format!("{path}.filters[{i}]");
        if !seen.insert(filter.r#type) {
            scope.fault(
                &path,
                format!("a second {} filter", type_name(filter.r#type())),
                "one of each type a rule: join them",
            );
        }
        if !has_its_field_alone(scope, filter, &path) {
            continue;
        }
        if let Some(edits) = &filter.request_header_modifier {
            filters.request_headers =
                check_headers(scope, edits, &format!("{path}.requestHeaderModifier"));
        }
        if let Some(edits) = &filter.response_header_modifier {
            filters.response_headers =
                check_headers(scope, edits, &format!("{path}.responseHeaderModifier"));
        }
        if let Some(mirror) = &filter.request_mirror {
            filters.mirror =
                check_mirror(scope, services, mirror, &format!("{path}.requestMirror"));
        }
        if let Some(redirect) = &filter.request_redirect {
            let path = format!("{path}.requestRedirect");
            filters.redirect = Some(check_redirect(scope, redirect, matches, &path));
        }
        if let Some(UrlRewrite { hostname, path: modifier }) = &filter.url_rewrite {
            scope.no_wildcard(hostname, &format!("{path}.urlRewrite.hostname"));
            filters.host_rewrite = (!hostname.is_empty()).then(|| hostname.clone());
            filters.path_rewrite = modifier.as_ref().and_then(|modifier| {
                check_modifier(scope, modifier, matches, &format!("{path}.urlRewrite.path"))
            });
        }
    }
    let rewrites = filters.host_rewrite.is_some() || filters.path_rewrite.is_some();
    if filters.redirect.is_some() && rewrites {
        scope.fault(
            &format!("{path}.filters"),
            "a request that is redirected is not rewritten",
            "use either RequestRedirect or URLRewrite",
        );
    }
    filters
}

fn type_name(kind: Type) -> &'static str {
    match kind {
        Type::Unspecified => "",
        Type::RequestHeaderModifier => "RequestHeaderModifier",
        Type::ResponseHeaderModifier => "ResponseHeaderModifier",
        Type::RequestMirror => "RequestMirror",
        Type::RequestRedirect => "RequestRedirect",
        Type::UrlRewrite => "URLRewrite",
    }
}

/// The field that the type names is there, and no other.
fn has_its_field_alone(scope: &mut Scope<'_>, filter: &RouteFilter, path: &str) -> bool {
    let fields = [
        (
            Type::RequestHeaderModifier,
            "requestHeaderModifier",
            filter.request_header_modifier.is_some(),
        ),
        (
            Type::ResponseHeaderModifier,
            "responseHeaderModifier",
            filter.response_header_modifier.is_some(),
        ),
        (Type::RequestMirror, "requestMirror", filter.request_mirror.is_some()),
        (Type::RequestRedirect, "requestRedirect", filter.request_redirect.is_some()),
        (Type::UrlRewrite, "urlRewrite", filter.url_rewrite.is_some()),
    ];
    let mut good = true;
    for (kind, field, there) in fields {
        if (kind == filter.r#type()) == there {
            continue;
        }
        good = false;
        let name = type_name(filter.r#type());
        if there {
            scope.fault(
                &format!("{path}.{field}"),
                format!("`{field}` does not belong to a filter of type {name}"),
                "remove it, or write a filter of its own",
            );
        } else {
            scope.fault(path, format!("a {name} filter needs `{field}`"), format!("write {field}"));
        }
    }
    good
}

fn check_headers(
    scope: &mut Scope<'_>,
    modifier: &HeaderModifier,
    path: &str,
) -> mesh::HeaderEdits {
    let mut seen = BTreeSet::new();
    let mut pairs = |list: &str, values: &[HeaderValue]| -> Vec<(String, String)> {
        let mut pairs = Vec::with_capacity(values.len());
        for (i, HeaderValue { name, value }) in values.iter().enumerate() {
            let path = format!("{path}.{list}[{i}]");
            let name = name.to_ascii_lowercase();
            check_name(scope, &name, &format!("{path}.name"));
            if !seen.insert((list.to_owned(), name.clone())) {
                scope.fault(
                    &format!("{path}.name"),
                    format!("`{list}` names `{name}` twice"),
                    "write one value, or several separated by commas",
                );
            }
            // RFC 9110 section 5.5; anything else would let a value write headers of its own.
            let visible = |c: char| c == '\t' || (c >= ' ' && c != '\u{7f}');
            if !value.chars().all(visible) || value.trim() != value {
                scope.fault(
                    &format!("{path}.value"),
                    format!("{} is not the value of a header", quoted(value)),
                    "no control characters, and no space at either end",
                );
            }
            if value.len() > MOST_VALUE_BYTES {
                scope.fault(
                    &format!("{path}.value"),
                    format!("the value has {} bytes", value.len()),
                    "at most 8192 bytes",
                );
            }
            pairs.push((name, value.clone()));
        }
        pairs
    };
    let set = pairs("set", &modifier.set);
    let add = pairs("add", &modifier.add);
    let mut remove = Vec::with_capacity(modifier.remove.len());
    for (i, name) in modifier.remove.iter().enumerate() {
        let name = name.to_ascii_lowercase();
        check_name(scope, &name, &format!("{path}.remove[{i}]"));
        remove.push(name);
    }
    mesh::HeaderEdits { set, add, remove }
}

fn check_name(scope: &mut Scope<'_>, name: &str, path: &str) {
    if NOT_OURS.contains(&name) {
        let hint = if name == "host" {
            "change the host by a URLRewrite filter"
        } else {
            "it frames the message or belongs to one connection"
        };
        scope.fault(path, format!("the header `{name}` cannot be changed here"), hint);
    }
}

fn check_mirror(
    scope: &mut Scope<'_>,
    services: &Services<'_>,
    mirror: &RequestMirror,
    path: &str,
) -> Option<mesh::Mirror> {
    let share =
        if mirror.percent.is_empty() { Ok(WHOLE) } else { format::percent(&mirror.percent) };
    let copied = mirror.backend_ref.as_ref()?;
    let path = format!("{path}.backendRef");
    if copied.weight.is_some() {
        scope.fault(
            &format!("{path}.weight"),
            "a copy has no weight",
            "write `percent` beside backendRef",
        );
    }
    let (service, version) = backend::check_one(scope, services, copied, &path)?;
    Some(mesh::Mirror { service, version, share: share.ok()? })
}

fn check_redirect(
    scope: &mut Scope<'_>,
    redirect: &RequestRedirect,
    matches: &[mesh::Match],
    path: &str,
) -> mesh::Redirect {
    if !matches!(redirect.scheme.as_str(), "" | "http" | "https") {
        scope.fault(
            &format!("{path}.scheme"),
            format!("{} is not a scheme of HTTP", quoted(&redirect.scheme)),
            "http or https",
        );
    }
    if let Some(status) = redirect.status_code.filter(|status| !STATUSES.contains(status)) {
        scope.fault(
            &format!("{path}.statusCode"),
            format!("{status} is not a redirect"),
            "301, 302, 303, 307 or 308",
        );
    }
    scope.no_wildcard(&redirect.hostname, &format!("{path}.hostname"));
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    mesh::Redirect {
        status: redirect
            .status_code
            .and_then(|status| u16::try_from(status).ok())
            .unwrap_or(DEFAULT_STATUS),
        scheme: text(&redirect.scheme),
        host: text(&redirect.hostname),
        port: redirect.port.and_then(|port| u16::try_from(port).ok()),
        path: redirect
            .path
            .as_ref()
            .and_then(|modifier| check_modifier(scope, modifier, matches, &format!("{path}.path"))),
    }
}

fn check_modifier(
    scope: &mut Scope<'_>,
    modifier: &PathModifier,
    matches: &[mesh::Match],
    path: &str,
) -> Option<mesh::PathRewrite> {
    let (full, prefix) = (&modifier.replace_full_path, &modifier.replace_prefix_match);
    let (field, other, value, unused) = match modifier.r#type() {
        PathType::ReplaceFullPath => ("replaceFullPath", "replacePrefixMatch", full, prefix),
        PathType::ReplacePrefixMatch => ("replacePrefixMatch", "replaceFullPath", prefix, full),
        PathType::Unspecified => return None,
    };
    if !unused.is_empty() {
        scope.fault(
            &format!("{path}.{other}"),
            format!("`{other}` does not belong to this type"),
            format!("write only {field}"),
        );
    }
    if value.is_empty() {
        scope.fault(path, format!("`{field}` is missing"), "a path, such as /");
        return None;
    }
    if modifier.r#type() == PathType::ReplaceFullPath {
        return Some(mesh::PathRewrite::Full(value.clone()));
    }
    if !matches.iter().all(|it| matches!(it.path, mesh::PathMatch::Prefix(_))) {
        scope.fault(
            &format!("{path}.{field}"),
            "only a matched prefix can be replaced",
            "all matches of the rule are of type PathPrefix",
        );
    }
    Some(mesh::PathRewrite::Prefix(value.clone()))
}
