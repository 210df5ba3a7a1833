//! Checks of a `ContextPolicy`: session keys and pins.

use std::time::Duration;

use segue_proto::config::v1::session_key::{From, Learn, learn};
use segue_proto::config::v1::{ContextPolicySpec, SessionKey};
use segue_shared::ids::ServiceName;

use super::lookup::{Scope, Services};
use super::mesh;
use super::time::to_duration;

const DEFAULT_MAX_AGE: Duration = Duration::from_hours(24);

/// The service and what a session of it is.
pub(super) fn check(
    scope: &mut Scope<'_>,
    services: &Services<'_>,
    spec: &ContextPolicySpec,
) -> Option<(ServiceName, mesh::Sessions)> {
    for (i, key) in spec.session_key.iter().enumerate() {
        check_key(scope, key, &format!("spec.sessionKey[{i}]"));
    }
    if let Some(pin) = &spec.pin
        && let (Some(idle), Some(age)) = (pin.idle_timeout, pin.max_age)
        && to_duration(idle) > to_duration(age)
    {
        scope.fault(
            "spec.pin.idleTimeout",
            "a session would be over by its age before it is idle",
            "idleTimeout is at most maxAge",
        );
    }
    if let Some(cache) = &spec.cache
        && let (Some(session), Some(total)) = (cache.max_session_bytes, cache.max_total_bytes)
        && session > total
    {
        scope.fault(
            "spec.cache.maxSessionBytes",
            "one session may hold more than all together",
            "maxSessionBytes is at most maxTotalBytes",
        );
    }
    let service = scope.target(services, spec.target_ref.as_ref(), "spec.targetRef")?;
    let pin = spec
        .pin
        .as_ref()
        .map(|pin| mesh::Pin { max_age: pin.max_age.map_or(DEFAULT_MAX_AGE, to_duration) });
    let keys = spec.session_key.iter().map(key_of_split).collect();
    Some((service, mesh::Sessions { keys, pin }))
}

/// A session key as far as a split, or another proxy, can use it.
fn key_of_split(key: &SessionKey) -> mesh::SessionKey {
    match &key.from {
        Some(From::Header(name)) => mesh::SessionKey::Header(name.to_ascii_lowercase()),
        Some(From::Cookie(name)) => mesh::SessionKey::Cookie(name.clone()),
        Some(From::Mcp(_)) => mesh::SessionKey::Mcp,
        _ => mesh::SessionKey::Other,
    }
}

fn check_key(scope: &mut Scope<'_>, key: &SessionKey, path: &str) {
    match &key.from {
        Some(From::Query(name)) if name.is_empty() => {
            scope.fault(&format!("{path}.query"), "the query parameter has no name", "");
        }
        // The expression compiles: that was checked when the resource was read.
        Some(From::Path(expression))
            if regex::Regex::new(expression).is_ok_and(|regex| regex.captures_len() < 2) =>
        {
            scope.fault(
                &format!("{path}.path"),
                "the expression has no group that could be the session's id",
                "such as ^/sessions/([^/]+)",
            );
        }
        _ => {}
    }
    if let Some(Learn {
        from: Some(learn::From::ResponseJson(pointer) | learn::From::Sse(pointer)),
    }) = &key.learn
        && pointer.is_empty()
    {
        scope.fault(
            &format!("{path}.learn"),
            "the whole body cannot be a session's id",
            "such as /session/id",
        );
    }
}
