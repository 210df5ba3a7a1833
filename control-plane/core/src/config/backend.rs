//! Checks of a rule's backends: services, versions and weights.

use std::collections::BTreeMap;

use segue_proto::config::v1::{BackendRef, RouteRule};
use segue_shared::ids::{ServiceName, VersionLabel};

use super::lookup::{Scope, Services, is_retired};
use super::{mesh, service};

/// Sums that weights of several backends may have: percent and basis points.
const SUMS: [u64; 2] = [100, 10_000];

/// The backends of a rule. `redirects`: the rule has a redirect, which answers by itself.
pub(super) fn check(
    scope: &mut Scope<'_>,
    services: &Services<'_>,
    rule: &RouteRule,
    redirects: bool,
    path: &str,
) -> Vec<mesh::Backend> {
    let several = rule.backend_refs.len() > 1;
    let mut seen: BTreeMap<(ServiceName, VersionLabel), usize> = BTreeMap::new();
    let mut backends = Vec::with_capacity(rule.backend_refs.len());
    for (i, backend) in rule.backend_refs.iter().enumerate() {
        let path = format!("{path}.backendRefs[{i}]");
        if several && backend.weight.is_none() {
            scope.fault(
                &format!("{path}.weight"),
                "one of several backends has no weight",
                "write the weight of each; together 100 (percent) or 10000 (basis points)",
            );
        }
        let Some((service, version)) = check_one(scope, services, backend, &path) else {
            continue;
        };
        if let Some(first) = seen.insert((service.clone(), version.clone()), i) {
            scope.fault(
                &path,
                format!("version {version} of {service} is a backend already"),
                format!("add the weight to backendRefs[{first}]"),
            );
        }
        backends.push(mesh::Backend { service, version, weight: backend.weight.unwrap_or(1) });
    }
    let path = format!("{path}.backendRefs");
    match rule.backend_refs.as_slice() {
        [] if !redirects => scope.fault(
            &path,
            "the rule sends requests nowhere",
            "write backendRefs, or a RequestRedirect filter",
        ),
        [] => {}
        _ if redirects => scope.fault(
            &path,
            "a rule that redirects has no backends",
            "remove backendRefs or the RequestRedirect filter",
        ),
        [one] if one.weight == Some(0) => scope.fault(
            &format!("{path}[0].weight"),
            "the only backend has weight 0, so that no request could be served",
            "remove the weight",
        ),
        [_] => {}
        all => check_sum(scope, all, &path),
    }
    backends
}

/// Percent or basis points, so that a share is what its number says, and stays it when another
/// backend comes.
fn check_sum(scope: &mut Scope<'_>, backends: &[BackendRef], path: &str) {
    let Some(weights) = backends.iter().map(|it| it.weight).collect::<Option<Vec<u32>>>() else {
        return;
    };
    let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    if SUMS.contains(&sum) {
        return;
    }
    let text = weights.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ");
    // The last one takes what is missing, as most people mean it.
    let others = sum - weights.last().map_or(0, |&last| u64::from(last));
    let total = if others <= SUMS[0] { SUMS[0] } else { SUMS[1] };
    let hint = match total.checked_sub(others) {
        Some(rest) => format!(
            "weights sum to 100 (percent) or 10000 (basis points): with {rest} for the last it is \
             {total}"
        ),
        None => "weights sum to 100 (percent) or 10000 (basis points)".to_owned(),
    };
    scope.fault(path, format!("the weights {text} sum to {sum}"), hint);
}

/// The service and version of a backend; also of a mirror.
pub(super) fn check_one(
    scope: &mut Scope<'_>,
    services: &Services<'_>,
    backend: &BackendRef,
    path: &str,
) -> Option<(ServiceName, VersionLabel)> {
    let name = scope.service(services, &backend.namespace, &backend.name, path)?;
    let spec = services.spec(&name)?;
    let port = u32::from(service::port(spec));
    if let Some(written) = backend.port.filter(|&written| written != port) {
        scope.fault(
            &format!("{path}.port"),
            format!("Service {name} has the port {port}, not {written}"),
            "remove the port, or write the service's own",
        );
    }
    let label = scope.version(services, &name, &backend.version, &format!("{path}.version"))?;
    let serves = |version: &&segue_proto::config::v1::Version| version.name == label.as_str();
    if backend.weight != Some(0) && spec.versions.iter().find(serves).is_some_and(is_retired) {
        scope.fault(
            &format!("{path}.version"),
            format!("version {label} of {name} is retired and serves nothing"),
            "send its share to another version",
        );
    }
    Some((name, label))
}
