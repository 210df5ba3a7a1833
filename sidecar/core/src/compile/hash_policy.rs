//! Envoy's `hash_policy`, as far as it is one of our keys: the first entry, a header or a cookie.

use envoy_types::pb::envoy::config::route::v3::route_action::HashPolicy;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::PolicySpecifier;

use super::header::header_name;
use crate::reject::Fault;
use crate::snapshot::SplitKey;

/// The key that is hashed; random where there is no policy.
pub(crate) fn key(policies: &[HashPolicy]) -> Result<SplitKey, Fault> {
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
