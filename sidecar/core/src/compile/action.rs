//! What a route does: `RouteAction`, `RedirectAction`, `DirectResponseAction`.
//!
//! | field | taken |
//! |---|---|
//! | `cluster`, `weighted_clusters` (repeated names too) | yes |
//! | `typed_per_filter_config["segue.split"]` of the route | goes before weights |
//! | `weighted_clusters.use_hash_policy` with `hash_policy[0]` header or cookie | the split key where there is no `segue.split` |
//! | `hash_policy[0]` header or cookie | the key of clusters that hash and bring none; others are ignored |
//! | `timeout` | yes, default 15 s, 0 = none; `max_stream_duration` caps it; `grpc-timeout` of callers always does |
//! | `prefix_rewrite`, `path_rewrite`, `regex_rewrite` of the whole path to a constant, or of the matched prefix to `/` | yes; other expressions are refused |
//! | `host_rewrite_literal` | yes; other rewrites of the host are refused |
//! | `retry_policy` | `retry_on`, `num_retries`, `per_try_timeout`, `retriable_status_codes`, `retry_back_off`; the rest tunes |
//! | `redirect` | all but `path_rewrite` and `strip_query` |
//! | `direct_response` | status, inline body |
//! | `request_mirror_policies[]` | `cluster`, `runtime_fraction.default_value`, `disable_shadow_host_suffix_append`; the rest is refused |
//! | `cluster_header`, plugins, `metadata_match`, `internal_redirect_policy` | refused |
//! | `idle_timeout` | yes, default 300 s, 0 = none |
//! | `hedge_policy` | `hedge_on_per_try_timeout`, of requests that may be repeated and have no body; the rest tunes |
//! | `priority`, `rate_limits`, `cors`, `upgrade_configs` | ignored: they tune, or do nothing without a filter |

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy,
};
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::RandomValueSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, HedgePolicy, RedirectAction, RetryPolicy, RouteAction as PbRouteAction,
    WeightedCluster,
};
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use http::{HeaderValue, StatusCode};
use segue_shared::bucket::{Salt, TOTAL, shares};

use super::cluster_names::ClusterNames;
use super::extension::{NamedSplit, filter_configs, ranges};
use super::field::{WHOLE_MILLIONTHS, duration, millionths, refuse, unsupported};
use super::hash_policy;
use crate::canonical::rule_path;
use crate::reject::Fault;
use crate::snapshot::{
    DirectResponse, Forward, InjectedFault, Mirror, PathMatcher, PathRewrite, Redirect, Retry,
    RouteAction, Split, SplitKey,
};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
/// As the connection manager's `stream_idle_timeout`.
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_mins(5);
const DEFAULT_BACKOFF: Duration = Duration::from_millis(25);

/// What a virtual host hands down to its routes.
pub(crate) struct Inherited<'a> {
    pub retry: Option<&'a RetryPolicy>,
    pub hedge: Option<&'a HedgePolicy>,
    /// Salt of splits that bring none.
    pub salt: &'a str,
    /// What routes make that say nothing else.
    pub fault: Option<Arc<InjectedFault>>,
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
    refuse(route.internal_redirect_policy.is_some(), "internal_redirect_policy")?;
    refuse(route.path_rewrite_policy.is_some(), "path_rewrite_policy")?;
    refuse(route.retry_policy_typed_config.is_some(), "retry_policy_typed_config")?;
    let declared = declared_split(route, inherited.salt)?;
    let NamedSplit { key, salt, ranges } = split.unwrap_or(declared);
    let ranges = ranges.iter().map(|(end, name)| (*end, names.place(name))).collect();
    let policies = route.request_mirror_policies.iter().enumerate();
    let mirrors = policies.map(|(i, policy)| {
        mirror(policy, names).map_err(|fault| fault.under(&format!("request_mirror_policies[{i}]")))
    });
    let mirrors = mirrors.collect::<Result<Vec<Mirror>, Fault>>()?;
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
    let (mut retry, try_timeout) = match retry_policy {
        Some(policy) => retry(policy).map_err(|fault| fault.under("retry_policy"))?,
        None => (None, None),
    };
    let hedge_policy = route.hedge_policy.as_ref().or(inherited.hedge);
    if let Some(retry) = &mut retry {
        retry.hedges = hedge_policy.is_some_and(|policy| policy.hedge_on_per_try_timeout);
    }
    Ok(Forward {
        split: Split { key, salt, ranges },
        // It decides nothing where the cluster does not hash.
        hash_key: hash_policy::key(&route.hash_policy).unwrap_or(SplitKey::Random),
        timeout: timeout(route)?,
        try_timeout,
        idle_timeout: match &route.idle_timeout {
            Some(idle) => Some(duration("idle_timeout", idle)?).filter(|idle| !idle.is_zero()),
            None => Some(DEFAULT_IDLE_TIMEOUT),
        },
        host_rewrite,
        path_rewrite: path_rewrite(route, path)?,
        retry,
        mirrors,
    })
}

fn mirror(policy: &RequestMirrorPolicy, names: &mut ClusterNames) -> Result<Mirror, Fault> {
    refuse(!policy.cluster_header.is_empty(), "cluster_header")?;
    refuse(!policy.request_headers_mutations.is_empty(), "request_headers_mutations")?;
    refuse(!policy.host_rewrite_literal.is_empty(), "host_rewrite_literal")?;
    if policy.cluster.is_empty() {
        return Err(Fault::at("cluster", "must be set"));
    }
    let fraction = policy.runtime_fraction.as_ref().and_then(|it| it.default_value.as_ref());
    let share_millionths = match fraction {
        None => WHOLE_MILLIONTHS,
        Some(fraction) => {
            millionths(*fraction).map_err(|fault| fault.under("runtime_fraction.default_value"))?
        }
    };
    Ok(Mirror {
        cluster: names.place(&policy.cluster),
        share_millionths,
        keeps_host: policy.disable_shadow_host_suffix_append,
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
                    hash_policy::key(&route.hash_policy)?
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

fn weights(weighted: &WeightedCluster) -> Result<Vec<(u16, Arc<str>)>, Fault> {
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
        grpc_statuses: 0,
        reset: false,
        hedges: false,
        backoff: DEFAULT_BACKOFF,
        max_backoff: Duration::ZERO,
    };
    let back_off = policy.retry_back_off.as_ref();
    if let Some(base) = back_off.and_then(|it| it.base_interval.as_ref()) {
        retry.backoff = duration("retry_back_off.base_interval", base)?;
    }
    retry.max_backoff = match back_off.and_then(|it| it.max_interval.as_ref()) {
        Some(max) => duration("retry_back_off.max_interval", max)?,
        None => retry.backoff.saturating_mul(10),
    };
    let mut codes: Vec<u32> = Vec::new();
    for condition in policy.retry_on.split(',').map(str::trim) {
        match condition {
            "5xx" => {
                codes.extend(500..600);
                retry.reset = true;
            }
            "gateway-error" => {
                codes.extend([502, 503, 504]);
                retry.reset = true;
            }
            "reset" => retry.reset = true,
            "retriable-4xx" => codes.push(409),
            "retriable-status-codes" => codes.extend(&policy.retriable_status_codes),
            "cancelled" => retry.grpc_statuses |= 1 << 1,
            "deadline-exceeded" => retry.grpc_statuses |= 1 << 4,
            "resource-exhausted" => retry.grpc_statuses |= 1 << 8,
            "internal" => retry.grpc_statuses |= 1 << 13,
            "unavailable" => retry.grpc_statuses |= 1 << 14,
            // What reached no upstream is repeated in any case; others make a retry rarer, never
            // wrong.
            _ => {}
        }
    }
    codes.sort_unstable();
    codes.dedup();
    for code in codes {
        retry.statuses.push(status("retriable_status_codes", code)?);
    }
    let useful = retry.attempts > 0 && !policy.retry_on.is_empty();
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
