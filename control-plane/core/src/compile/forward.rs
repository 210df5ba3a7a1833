//! What a route does with a request: split it among versions, send the caller elsewhere, or say
//! that nothing can be done.

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, RuntimeFractionalPercent,
};
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::retry_policy::RetryBackOff;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HostRewriteSpecifier, MaxStreamDuration, RequestMirrorPolicy,
};
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use envoy_types::pb::google::protobuf::UInt32Value;
use segue_proto::extension::v1::Split;
use segue_shared::xds_names;

use super::extension::duration;
use super::matching::regex;
use super::{NodeKind, split};
use crate::config::mesh::{
    HeaderEdits, Match, MeshConfig, Mirror, PathMatch, PathRewrite, Protocol, Redirect, Retry,
    Rule, Service, SplitBy,
};

/// Failures after which nothing has reached the upstream, so that a repetition is always safe.
const SAFE_RETRIES: &str = "connect-failure,refused-stream";

pub(super) struct Decision {
    pub action: Action,
    /// Only where several versions share the requests.
    pub split: Option<Split>,
}

/// Whose routes are compiled, and for whom.
pub(super) struct Destination<'a> {
    pub config: &'a MeshConfig,
    pub service: &'a Service,
    pub split_by: &'a SplitBy,
    pub kind: NodeKind,
}

pub(super) fn decide(of: &Destination<'_>, rule: &Rule, matched: &Match) -> Decision {
    let Destination { config, service, split_by, kind } = *of;
    let is_sidecar = kind == NodeKind::Sidecar;
    if let Some(to) = &rule.filters.redirect {
        return Decision { action: Action::Redirect(redirect(to, matched)), split: None };
    }
    let shares = split::shares(config, service, &rule.backends);
    let (specifier, hash_policy, split) = match shares.as_slice() {
        [] => return Decision { action: nowhere(), split: None },
        [(cluster, _)] => (ClusterSpecifier::Cluster(cluster.clone()), Vec::new(), None),
        shares => {
            // Our sidecars go by the extension alone.
            let by = if is_sidecar { &SplitBy::Random } else { split_by };
            (
                ClusterSpecifier::WeightedClusters(split::weighted_clusters(shares, by)),
                split::hash_policy(by),
                Some(split::extension(service, shares, split_by)),
            )
        }
    };
    // Without repetitions, the limit of one attempt is a limit of all of them.
    let timeout = match (rule.timeout, rule.try_timeout) {
        (Some(all), Some(one)) if rule.retry.is_none() => Some(all.min(one)),
        (None, Some(one)) if rule.retry.is_none() => Some(one),
        (all, _) => all,
    };
    let mut action = pb::RouteAction {
        cluster_specifier: Some(specifier),
        hash_policy,
        // Zero says "without limit"; an absent field would say 15 s.
        timeout: Some(duration(timeout.unwrap_or_default())),
        idle_timeout: rule.stream_idle.map(duration),
        max_stream_duration: (service.protocol == Protocol::Grpc && !is_sidecar).then(|| {
            // Ours heed it unasked. Zero is no cap.
            let cap = Some(duration(timeout.unwrap_or_default()));
            MaxStreamDuration { grpc_timeout_header_max: cap, ..MaxStreamDuration::default() }
        }),
        retry_policy: Some(retry_policy(rule, is_sidecar)),
        // Others would hedge whatever they forward, also what must not be done twice.
        hedge_policy: (is_sidecar
            && rule.retry.as_ref().is_some_and(|it| it.hedge_after.is_some()))
        .then(|| pb::HedgePolicy { hedge_on_per_try_timeout: true, ..pb::HedgePolicy::default() }),
        request_mirror_policies: rule.filters.mirror.iter().map(mirror).collect(),
        host_rewrite_specifier: rule
            .filters
            .host_rewrite
            .clone()
            .map(HostRewriteSpecifier::HostRewriteLiteral),
        ..pb::RouteAction::default()
    };
    match rule.filters.path_rewrite.as_ref().map(|to| path_change(to, &matched.path)) {
        Some(PathRewrite::Prefix(prefix)) => action.prefix_rewrite = prefix,
        Some(PathRewrite::Full(path)) => action.regex_rewrite = Some(whole_path(&path)),
        None => {}
    }
    Decision { action: Action::Route(action), split }
}

/// All backends have weight 0: the Gateway API asks for 500.
fn nowhere() -> Action {
    Action::DirectResponse(pb::DirectResponseAction {
        status: 500,
        ..pb::DirectResponseAction::default()
    })
}

/// Every route repeats once what provably did not arrive; more only where the rule says so.
fn retry_policy(rule: &Rule, is_sidecar: bool) -> pb::RetryPolicy {
    let count = |value| Some(UInt32Value { value });
    let Some(Retry { statuses, attempts, backoff, hedge_after }) = &rule.retry else {
        return pb::RetryPolicy {
            retry_on: SAFE_RETRIES.to_owned(),
            num_retries: count(1),
            ..pb::RetryPolicy::default()
        };
    };
    let retry_on = if statuses.is_empty() {
        SAFE_RETRIES.to_owned()
    } else {
        format!("{SAFE_RETRIES},retriable-status-codes")
    };
    // Envoy refuses an interval below 1 ms.
    let backoff = (backoff.as_millis() > 0).then(|| RetryBackOff {
        base_interval: Some(duration(*backoff)),
        ..RetryBackOff::default()
    });
    pb::RetryPolicy {
        retry_on,
        num_retries: count(*attempts),
        per_try_timeout: hedge_after.filter(|_| is_sidecar).or(rule.try_timeout).map(duration),
        retriable_status_codes: statuses.iter().map(|&status| u32::from(status)).collect(),
        retry_back_off: backoff,
        ..pb::RetryPolicy::default()
    }
}

fn mirror(mirror: &Mirror) -> RequestMirrorPolicy {
    let share = FractionalPercent {
        numerator: u32::from(mirror.share),
        denominator: DenominatorType::TenThousand as i32,
    };
    RequestMirrorPolicy {
        cluster: xds_names::cluster(&mirror.service, mirror.version.as_str()),
        runtime_fraction: Some(RuntimeFractionalPercent {
            default_value: Some(share),
            ..RuntimeFractionalPercent::default()
        }),
        // The other version answers for the same host.
        disable_shadow_host_suffix_append: true,
        ..RequestMirrorPolicy::default()
    }
}

fn redirect(to: &Redirect, matched: &Match) -> pb::RedirectAction {
    let code = match to.status {
        301 => RedirectResponseCode::MovedPermanently,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::Found,
    };
    let path = to.path.as_ref().map(|path| match path_change(path, &matched.path) {
        PathRewrite::Full(path) => PathRewriteSpecifier::PathRedirect(path),
        PathRewrite::Prefix(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix),
    });
    pb::RedirectAction {
        host_redirect: to.host.clone().unwrap_or_default(),
        port_redirect: to.port.map_or(0, u32::from),
        response_code: code as i32,
        scheme_rewrite_specifier: to.scheme.clone().map(SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: path,
        ..pb::RedirectAction::default()
    }
}

/// What takes the place of the path, or of the part of it that matched, letter by letter.
fn path_change(to: &PathRewrite, matched: &PathMatch) -> PathRewrite {
    match (to, matched) {
        // An expression has no prefix.
        (PathRewrite::Full(path), _) | (PathRewrite::Prefix(path), PathMatch::Regex(_)) => {
            PathRewrite::Full(path.clone())
        }
        (PathRewrite::Prefix(path), PathMatch::Exact(_)) => PathRewrite::Prefix(path.clone()),
        (PathRewrite::Prefix(path), PathMatch::Prefix(prefix)) => {
            let path = path.trim_end_matches('/');
            let everything = prefix.trim_end_matches('/').is_empty();
            // The prefix of everything is a slash, which must come back.
            let slash = if everything || path.is_empty() { "/" } else { "" };
            PathRewrite::Prefix(format!("{path}{slash}"))
        }
    }
}

/// The one change of a whole path that every client knows.
fn whole_path(path: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute {
        pattern: Some(regex("^/.*$")),
        // A backslash would begin a reference to a group.
        substitution: path.replace('\\', "\\\\"),
    }
}

/// The prefix `/a` that a rule takes away, so that `/a/b` becomes `/b`. Cutting off whole segments
/// would leave the slash before `b` and add another one.
pub(super) fn removed_prefix<'a>(rule: &Rule, matched: &'a Match) -> Option<&'a str> {
    let redirect = rule.filters.redirect.as_ref().map(|redirect| redirect.path.as_ref());
    let change = redirect.unwrap_or(rule.filters.path_rewrite.as_ref())?;
    match (change, &matched.path) {
        (PathRewrite::Prefix(to), PathMatch::Prefix(prefix)) if to.trim_matches('/').is_empty() => {
            Some(prefix.trim_end_matches('/')).filter(|prefix| !prefix.is_empty())
        }
        _ => None,
    }
}

/// Header changes as a route holds them.
pub(super) struct Edits {
    pub add: Vec<HeaderValueOption>,
    pub remove: Vec<String>,
}

pub(super) fn header_edits(edits: &HeaderEdits) -> Edits {
    let option = |(name, value): &(String, String), action: HeaderAppendAction| HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_ascii_lowercase(),
            // Envoy reads `%` as the beginning of a variable.
            value: value.replace('%', "%%"),
            ..HeaderValue::default()
        }),
        append_action: action as i32,
        keep_empty_value: value.is_empty(),
        ..HeaderValueOption::default()
    };
    let set = edits.set.iter().map(|pair| option(pair, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = edits.add.iter().map(|pair| option(pair, HeaderAppendAction::AppendIfExistsOrAdd));
    Edits {
        add: set.chain(add).collect(),
        remove: edits.remove.iter().map(|name| name.to_ascii_lowercase()).collect(),
    }
}
