//! Checks of a `Route` to a service that speaks no HTTP: of a connection nothing is known but where
//! it wants to go.

use segue_proto::config::v1::RouteSpec;
use segue_proto::config::v1::split_by::Key;
use segue_shared::ids::ServiceName;

use super::lookup::Scope;

/// Every field that would need a request to look at is a fault.
pub(super) fn check(scope: &mut Scope<'_>, service: &ServiceName, spec: &RouteSpec) {
    let mut fault = |path: &str, what: &str, hint: &str| {
        let message = format!("Service {service} has protocol tcp: {what}");
        scope.fault(path, message, hint);
    };
    let key = spec.split_by.as_ref().and_then(|split| split.key.as_ref());
    if key.is_some_and(|key| !matches!(key, Key::Random(_))) {
        fault(
            "spec.splitBy",
            "its connections have no header, cookie or session to be split by",
            "write `splitBy: {random: {}}`: a connection stays on the version where it began",
        );
    }
    if spec.rules.len() > 1 {
        fault("spec.rules[1]", "its connections all go by one rule", "remove all but the first");
    }
    for (i, rule) in spec.rules.iter().enumerate().take(1) {
        let absent = [
            (rule.matches.is_empty(), "matches", "it has no requests to match"),
            (rule.filters.is_empty(), "filters", "it has no requests to change"),
            (
                rule.timeouts.is_none(),
                "timeouts",
                "its connections have no limit of time but idleness",
            ),
            (rule.retry.is_none(), "retry", "only connecting is tried again, which it always is"),
        ];
        for (_, field, what) in absent.into_iter().filter(|(absent, ..)| !absent) {
            let hint = format!("remove `{field}`");
            fault(&format!("spec.rules[{i}].{field}"), what, &hint);
        }
    }
}
