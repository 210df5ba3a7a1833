//! What a route does: `RouteAction`, `RedirectAction`, `DirectResponseAction`.
//!
//! | field | taken |
//! |---|---|
//! | `cluster`, `weighted_clusters` (repeated names too) | yes |
//! | `typed_per_filter_config["segue.split"]` of the route | goes before weights |
//! | `weighted_clusters.use_hash_policy` with `hash_policy[0]` header or cookie | the split key where there is no `segue.split` |
//! | `timeout` | yes, default 15 s, 0 = none; `max_stream_duration` caps it |
//! | `prefix_rewrite`, `path_rewrite`, `regex_rewrite` of the whole path to a constant, or of the matched prefix to `/` | yes; other expressions are refused |
//! | `host_rewrite_literal` | yes; other rewrites of the host are refused |
//! | `retry_policy` | `retry_on`, `num_retries`, `per_try_timeout`, `retriable_status_codes`, `retry_back_off.base_interval`; the rest tunes |
//! | `redirect` | all but `path_rewrite` and `strip_query` |
//! | `direct_response` | status, inline body |
//! | `cluster_header`, plugins, `request_mirror_policies`, `metadata_match`, `internal_redirect_policy` | refused |
//! | `idle_timeout`, `priority`, `hedge_policy`, `rate_limits`, `cors`, `upgrade_configs` | ignored: they tune, or do nothing without a filter |

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::PolicySpecifier;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HashPolicy, HostRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::RandomValueSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, RedirectAction, RetryPolicy, RouteAction as PbRouteAction,
    WeightedCluster,
};
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use http::{HeaderValue, StatusCode};
use segue_shared::bucket::{Salt, TOTAL, shares};

use super::cluster_names::ClusterNames;
use super::extension::{NamedSplit, filter_configs, ranges};
use super::field::{duration, refuse, unsupported};
use super::header::header_name;
use crate::canonical::rule_path;
use crate::reject::Fault;
use crate::snapshot::{
    DirectResponse, Forward, PathMatcher, PathRewrite, Redirect, Retry, RouteAction, Split,
    SplitKey,
};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
const DEFAULT_BACKOFF: Duration = Duration::from_millis(25);

/// What a virtual host hands down to its routes.
pub(crate) struct Inherited<'a> {
    pub retry: Option<&'a RetryPolicy>,
    /// Salt of splits that bring none.
    pub salt: &'a str,
}

pub(crate) fn action(
    action: Option<&Action>,
    path: &PathMatcher,
    split: Option<NamedSplit>,
    inherited: &Inherited<'_>,
    names: &mut ClusterNames,
) -> Result<RouteAction, Fault> {
    match action {
        Some(Action::Route(route)) => forward(route, path, split, inherited, names)
            .map(RouteAction::Forward)
            .map_err(|fault| fault.under("route")),
        Some(Action::Redirect(message)) => redirect(message, path)
            .map(RouteAction::Redirect)
            .map_err(|fault| fault.under("redirect")),
        Some(Action::DirectResponse(message)) => direct_response(message)
            .map(RouteAction::Direct)
            .map_err(|fault| fault.under("direct_response")),
        Some(Action::FilterAction(_)) => Err(unsupported("filter_action")),
        Some(Action::NonForwardingAction(_)) => Err(unsupported("non_forwarding_action")),
        None => Err(Fault::at("route", "an action must be set")),
    }
}

fn forward(
    route: &PbRouteAction,
    path: &PathMatcher,
    split: Option<NamedSplit>,
    inherited: &Inherited<'_>,
    names: &mut ClusterNames,
) -> Result<Forward, Fault> {
    refuse(route.metadata_match.is_some(), "metadata_match")?;
    refuse(!route.request_mirror_policies.is_empty(), "request_mirror_policies")?;
    refuse(route.internal_redirect_policy.is_some(), "internal_redirect_policy")?;
    refuse(route.path_rewrite_policy.is_some(), "path_rewrite_policy")?;
    refuse(route.retry_policy_typed_config.is_some(), "retry_policy_typed_config")?;
    let declared = declared_split(route, inherited.salt)?;
    let NamedSplit { key, salt, ranges } = split.unwrap_or(declared);
    let ranges = ranges.iter().map(|(end, name)| (*end, names.place(name))).collect();
    let host_rewrite = match &route.host_rewrite_specifier {
        None => None,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => Some(
            HeaderValue::from_str(host)
                .map_err(|_| Fault::at("host_rewrite_literal", "is no host"))?,
        ),
        Some(HostRewriteSpecifier::AutoHostRewrite(off)) if !off.value => None,
        Some(_) => return Err(unsupported("host_rewrite_specifier")),
    };
    let retry_policy = route.retry_policy.as_ref().or(inherited.retry);
    let (retry, try_timeout) = match retry_policy {
        Some(policy) => retry(policy).map_err(|fault| fault.under("retry_policy"))?,
        None => (None, None),
    };
    Ok(Forward {
        split: Split { key, salt, ranges },
        timeout: timeout(route)?,
        try_timeout,
        host_rewrite,
        path_rewrite: path_rewrite(route, path)?,
        retry,
    })
}

fn declared_split(route: &PbRouteAction, salt: &str) -> Result<NamedSplit, Fault> {
    let salt = Salt::new(salt);
    match &route.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) if !name.is_empty() => Ok(NamedSplit {
            key: SplitKey::Random,
            salt,
            ranges: vec![(TOTAL, name.as_str().into())],
        }),
        Some(ClusterSpecifier::Cluster(_)) | None => Err(Fault::at("cluster", "must be set")),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let ranges = weights(weighted).map_err(|fault| fault.under("weighted_clusters"))?;
            let key = match &weighted.random_value_specifier {
                Some(RandomValueSpecifier::UseHashPolicy(on)) if on.value => {
                    hash_key(&route.hash_policy)?
                }
                Some(RandomValueSpecifier::HeaderName(_)) => {
                    return Err(unsupported("weighted_clusters.header_name"));
                }
                _ => SplitKey::Random,
            };
            Ok(NamedSplit { key, salt, ranges })
        }
        Some(_) => {
            Err(Fault::at("cluster_specifier", "only cluster and weighted_clusters are supported"))
        }
    }
}

fn weights(weighted: &WeightedCluster) -> Result<Vec<(u16, std::sync::Arc<str>)>, Fault> {
    let mut weights = Vec::with_capacity(weighted.clusters.len());
    for (i, cluster) in weighted.clusters.iter().enumerate() {
        let at = format!("clusters[{i}]");
        let check = || {
            if cluster.name.is_empty() {
                return Err(Fault::at("name", "must be set"));
            }
            refuse(cluster.metadata_match.is_some(), "metadata_match")?;
            refuse(cluster.host_rewrite_specifier.is_some(), "host_rewrite_specifier")?;
            refuse(!cluster.request_headers_to_add.is_empty(), "request_headers_to_add")?;
            refuse(!cluster.request_headers_to_remove.is_empty(), "request_headers_to_remove")?;
            refuse(!cluster.response_headers_to_add.is_empty(), "response_headers_to_add")?;
            refuse(!cluster.response_headers_to_remove.is_empty(), "response_headers_to_remove")?;
            filter_configs(&cluster.typed_per_filter_config).map(|_| ())
        };
        check().map_err(|fault| fault.under(&at))?;
        weights.push(cluster.weight.as_ref().map_or(0, |weight| weight.value));
    }
    let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    if sum == 0 || sum > u64::from(u32::MAX) {
        let reason = format!("weights sum to {sum}, must be 1 to {}", u32::MAX);
        return Err(Fault::at("clusters", reason));
    }
    let names = weighted.clusters.iter().map(|cluster| cluster.name.as_str());
    Ok(ranges(shares(&weights).into_iter().zip(names)))
}

/// The key of Envoy's hash, where it is one of ours.
fn hash_key(policies: &[HashPolicy]) -> Result<SplitKey, Fault> {
    let Some(policy) = policies.first() else { return Ok(SplitKey::Random) };
    match &policy.policy_specifier {
        Some(PolicySpecifier::Header(header)) if header.regex_rewrite.is_none() => {
            header_name("hash_policy[0].header.header_name", &header.header_name)
                .map(SplitKey::Header)
        }
        Some(PolicySpecifier::Cookie(cookie)) if !cookie.name.is_empty() => {
            Ok(SplitKey::Cookie(cookie.name.as_str().into()))
        }
        _ => Err(Fault::at("hash_policy[0]", "only a header or a cookie is supported")),
    }
}

fn timeout(route: &PbRouteAction) -> Result<Option<Duration>, Fault> {
    let timeout = match &route.timeout {
        Some(timeout) => duration("timeout", timeout)?,
        None => DEFAULT_TIMEOUT,
    };
    let cap =
        match route.max_stream_duration.as_ref().and_then(|max| max.max_stream_duration.as_ref()) {
            Some(cap) => duration("max_stream_duration.max_stream_duration", cap)?,
            None => Duration::ZERO,
        };
    // Zero means no limit in both.
    Ok([timeout, cap].into_iter().filter(|limit| !limit.is_zero()).min())
}

fn path_rewrite(route: &PbRouteAction, path: &PathMatcher) -> Result<Option<PathRewrite>, Fault> {
    if !route.prefix_rewrite.is_empty() {
        return prefix_rewrite(&route.prefix_rewrite, path).map(Some);
    }
    if !route.path_rewrite.is_empty() {
        if route.path_rewrite.contains('%') {
            return Err(Fault::at("path_rewrite", "substitution commands are not supported"));
        }
        return Ok(Some(PathRewrite::Full(route.path_rewrite.as_str().into())));
    }
    let Some(rewrite) = &route.regex_rewrite else { return Ok(None) };
    expression_rewrite(rewrite, path).map(Some).map_err(|fault| fault.under("regex_rewrite"))
}

/// The two expressions that are not more than a constant: the whole path, and what was matched as a
/// prefix taken away with the slash behind it.
fn expression_rewrite(
    rewrite: &RegexMatchAndSubstitute,
    path: &PathMatcher,
) -> Result<PathRewrite, Fault> {
    let pattern = rewrite.pattern.as_ref().map_or("", |pattern| pattern.regex.as_str());
    if let PathMatcher::SegmentPrefix(prefix) = path
        && is_prefix_pattern(pattern, prefix)
        && rewrite.substitution == "/"
    {
        return Ok(PathRewrite::Prefix("/".into()));
    }
    if !matches!(pattern, ".*" | "^.*$" | ".+" | "^.+$" | "/.*" | "^/.*$" | "^/.*") {
        return Err(Fault::at("pattern", "only the whole path, `^.*$`, is supported"));
    }
    if rewrite.substitution.replace(r"\\", "").contains('\\') {
        return Err(Fault::at("substitution", "references to groups are not supported"));
    }
    Ok(PathRewrite::Full(rewrite.substitution.replace(r"\\", r"\").into()))
}

/// Whether an expression is a prefix and the slash behind it, however the prefix is spelled.
fn is_prefix_pattern(pattern: &str, prefix: &str) -> bool {
    let Some(escaped) = pattern.strip_prefix('^').and_then(|it| it.strip_suffix("/*")) else {
        return false;
    };
    let written = escaped.replace('\\', "");
    regex::escape(&written) == escaped && *rule_path(&written) == *prefix
}

fn prefix_rewrite(to: &str, path: &PathMatcher) -> Result<PathRewrite, Fault> {
    match path {
        PathMatcher::Prefix(_) | PathMatcher::SegmentPrefix(_) => {
            Ok(PathRewrite::Prefix(to.into()))
        }
        // All of the path is what matched.
        PathMatcher::Exact(_) => Ok(PathRewrite::Full(to.into())),
        PathMatcher::Regex(_) => {
            Err(Fault::at("prefix_rewrite", "is not supported with safe_regex"))
        }
    }
}

fn retry(policy: &RetryPolicy) -> Result<(Option<Retry>, Option<Duration>), Fault> {
    let try_timeout = match &policy.per_try_timeout {
        Some(timeout) => Some(duration("per_try_timeout", timeout)?).filter(|it| !it.is_zero()),
        None => None,
    };
    let mut retry = Retry {
        attempts: policy.num_retries.as_ref().map_or(1, |attempts| attempts.value),
        statuses: Vec::new(),
        connect_failure: false,
        backoff: DEFAULT_BACKOFF,
    };
    if let Some(base) = policy.retry_back_off.as_ref().and_then(|it| it.base_interval.as_ref()) {
        retry.backoff = duration("retry_back_off.base_interval", base)?;
    }
    let mut codes: Vec<u32> = Vec::new();
    for condition in policy.retry_on.split(',').map(str::trim) {
        match condition {
            "5xx" => {
                codes.extend(500..600);
                retry.connect_failure = true;
            }
            "gateway-error" => codes.extend([502, 503, 504]),
            "retriable-4xx" => codes.push(409),
            "retriable-status-codes" => codes.extend(&policy.retriable_status_codes),
            "connect-failure" | "refused-stream" | "reset" | "reset-before-request" => {
                retry.connect_failure = true;
            }
            // Conditions on trailers of gRPC and the like make a retry rarer, never wrong.
            _ => {}
        }
    }
    codes.sort_unstable();
    codes.dedup();
    for code in codes {
        retry.statuses.push(status("retriable_status_codes", code)?);
    }
    let useful = retry.attempts > 0 && (retry.connect_failure || !retry.statuses.is_empty());
    Ok((useful.then_some(retry), try_timeout))
}

fn redirect(message: &RedirectAction, path: &PathMatcher) -> Result<Redirect, Fault> {
    refuse(message.strip_query, "strip_query")?;
    let text = |text: &str| (!text.is_empty()).then(|| Box::from(text));
    let code = match message.response_code {
        0 => 301,
        1 => 302,
        2 => 303,
        3 => 307,
        4 => 308,
        _ => return Err(Fault::at("response_code", "is unknown")),
    };
    Ok(Redirect {
        status: status("response_code", code)?,
        scheme: match &message.scheme_rewrite_specifier {
            Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => text(scheme),
            Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
        },
        host: text(&message.host_redirect),
        port: match message.port_redirect {
            0 => None,
            port => {
                Some(u16::try_from(port).map_err(|_| Fault::at("port_redirect", "is no port"))?)
            }
        },
        path: match &message.path_rewrite_specifier {
            Some(PathRewriteSpecifier::PathRedirect(path)) => text(path).map(PathRewrite::Full),
            Some(PathRewriteSpecifier::PrefixRewrite(to)) => Some(prefix_rewrite(to, path)?),
            Some(PathRewriteSpecifier::RegexRewrite(rewrite)) => Some(
                expression_rewrite(rewrite, path).map_err(|fault| fault.under("regex_rewrite"))?,
            ),
            Some(PathRewriteSpecifier::PathRewrite(_)) => return Err(unsupported("path_rewrite")),
            None => None,
        },
    })
}

fn direct_response(message: &DirectResponseAction) -> Result<DirectResponse, Fault> {
    refuse(message.body_format.is_some(), "body_format")?;
    let body = match message.body.as_ref().and_then(|body| body.specifier.as_ref()) {
        None => Box::default(),
        Some(Specifier::InlineString(text)) => Box::from(text.as_bytes()),
        Some(Specifier::InlineBytes(bytes)) => Box::from(bytes.as_slice()),
        Some(_) => return Err(Fault::at("body", "only inline bodies are supported")),
    };
    Ok(DirectResponse { status: status("status", message.status)?, body })
}

fn status(field: &str, code: u32) -> Result<StatusCode, Fault> {
    u16::try_from(code)
        .ok()
        .filter(|code| (200..600).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| Fault::at(field, format!("{code} is no status from 200 to 599")))
}
