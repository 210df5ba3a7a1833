//! Checks of an `AccessPolicy`: rules, tokens, caps, which do not take effect yet; faults; and what
//! callers have to show.

use std::collections::BTreeSet;

use segue_proto::config::v1::access_policy_spec::Mtls as Asked;
use segue_proto::config::v1::{AccessPolicySpec, AccessRule, JwtProvider};

use segue_shared::bucket;
use segue_shared::ids::ServiceName;

use super::format::{self, quoted};
use super::lookup::{Scope, Services};
use super::mesh::{Abort, Delay, Faults, Mtls};
use super::time::to_duration;

/// The service, the faults that its callers meet, and what they have to show.
pub(super) fn check(
    scope: &mut Scope<'_>,
    services: &Services<'_>,
    spec: &AccessPolicySpec,
) -> Option<(ServiceName, Faults, Mtls)> {
    let target = scope.target(services, spec.target_ref.as_ref(), "spec.targetRef");
    one_name_each(scope, "spec.rules", spec.rules.iter().map(|rule| rule.name.as_str()));
    one_name_each(
        scope,
        "spec.rateLimits",
        spec.rate_limits.iter().map(|limit| limit.name.as_str()),
    );
    for (i, rule) in spec.rules.iter().enumerate() {
        check_rule(scope, rule, &format!("spec.rules[{i}]"));
    }
    for (i, provider) in spec.jwt.iter().enumerate() {
        check_jwt(scope, provider, &format!("spec.jwt[{i}]"));
    }
    if let Some(cors) = &spec.cors
        && cors.allow_credentials
        && cors.allow_origins.iter().any(|origin| origin == "*")
    {
        scope.fault(
            "spec.cors.allowOrigins",
            "cookies for any origin would let every page act for the user",
            "name the origins, or remove allowCredentials",
        );
    }
    if let Some(fault) = &spec.fault
        && fault.delay.is_none()
        && fault.abort.is_none()
    {
        scope.fault("spec.fault", "makes no fault", "write delay or abort");
    }
    let faults = Faults {
        delay: spec.fault.as_ref().and_then(|fault| fault.delay.as_ref()).map(|delay| Delay {
            time: delay.duration.map(to_duration).unwrap_or_default(),
            share: share(&delay.percent),
        }),
        abort: spec.fault.as_ref().and_then(|fault| fault.abort.as_ref()).map(|abort| Abort {
            status: u16::try_from(abort.status).unwrap_or(u16::MAX),
            share: share(&abort.percent),
        }),
    };
    let mtls = match spec.mtls() {
        Asked::Unspecified | Asked::Strict => Mtls::Strict,
        Asked::Permissive => Mtls::Permissive,
        Asked::Off => Mtls::Off,
    };
    Some((target?, faults, mtls))
}

/// What is no percentage has been told already.
fn share(percent: &str) -> u16 {
    if percent.is_empty() { bucket::TOTAL } else { format::percent(percent).unwrap_or(0) }
}

fn check_rule(scope: &mut Scope<'_>, rule: &AccessRule, path: &str) {
    for (i, identity) in rule.identities.iter().enumerate() {
        let rest = identity.strip_prefix("spiffe://");
        let good = rest.is_some_and(|rest| {
            !rest.is_empty()
                && !rest.starts_with('/')
                && !rest.trim_end_matches("/*").contains('*')
                && rest.bytes().all(|byte| byte.is_ascii_graphic())
        });
        if !good {
            scope.fault(
                &format!("{path}.identities[{i}]"),
                format!("{} is not a SPIFFE ID", quoted(identity)),
                "such as spiffe://mesh.local/ns/default/svc/chat; `/*` only at the end",
            );
        }
    }
    for (i, condition) in rule.headers.iter().enumerate() {
        if condition.values.is_empty() {
            scope.fault(
                &format!("{path}.headers[{i}]"),
                format!("no value of `{}` can hold", condition.name),
                "write values",
            );
        }
    }
}

fn check_jwt(scope: &mut Scope<'_>, provider: &JwtProvider, path: &str) {
    match (provider.jwks_uri.is_empty(), provider.jwks.is_empty()) {
        (true, true) => scope.fault(path, "no keys to check tokens with", "write jwksUri or jwks"),
        (false, false) => scope.fault(
            &format!("{path}.jwks"),
            "`jwks` and `jwksUri` exclude each other",
            "write only one of them",
        ),
        (false, true) if !is_url(&provider.jwks_uri) => scope.fault(
            &format!("{path}.jwksUri"),
            format!("{} is not an address", quoted(&provider.jwks_uri)),
            "begins with https:// or http://",
        ),
        (true, false) => {
            let keys = serde_json::from_str::<serde_json::Value>(&provider.jwks);
            if !keys.is_ok_and(|keys| keys.get("keys").is_some_and(serde_json::Value::is_array)) {
                scope.fault(
                    &format!("{path}.jwks"),
                    "not a JSON Web Key Set",
                    "{\"keys\": [...]} (RFC 7517)",
                );
            }
        }
        _ => {}
    }
}

/// Whether a text is an absolute HTTP address.
pub(super) fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && rest.bytes().all(|byte| byte.is_ascii_graphic())
    })
}

fn one_name_each<'n>(scope: &mut Scope<'_>, path: &str, names: impl Iterator<Item = &'n str>) {
    let mut seen = BTreeSet::new();
    for (i, name) in names.enumerate() {
        if !seen.insert(name) {
            scope.fault(
                &format!("{path}[{i}].name"),
                format!("the name `{name}` is taken"),
                "give each its own name",
            );
        }
    }
}
