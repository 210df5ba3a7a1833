//! Fields that several messages share.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::ConfigSource;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use envoy_types::pb::google::protobuf::Duration as PbDuration;
use regex::bytes::{Regex, RegexBuilder};

use crate::reject::Fault;
use crate::snapshot::ValueMatcher;

/// Everything, in millionths.
pub(crate) const WHOLE_MILLIONTHS: u32 = 1_000_000;
/// Memory that one compiled expression may take.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// The fault of a field that would change what happens, and that this proxy does not serve.
pub(crate) fn unsupported(field: &str) -> Fault {
    Fault::at(field, "is not supported")
}

/// Refuses a field that is set.
pub(crate) fn refuse(set: bool, field: &str) -> Result<(), Fault> {
    if set { Err(unsupported(field)) } else { Ok(()) }
}

/// A share in millionths.
pub(crate) fn millionths(fraction: FractionalPercent) -> Result<u32, Fault> {
    let factor = match DenominatorType::try_from(fraction.denominator) {
        Ok(DenominatorType::Hundred) => 10_000,
        Ok(DenominatorType::TenThousand) => 100,
        Ok(DenominatorType::Million) => 1,
        Err(_) => return Err(Fault::at("denominator", "is unknown")),
    };
    Ok(fraction.numerator.saturating_mul(factor).min(WHOLE_MILLIONTHS))
}

/// A duration that is not negative.
pub(crate) fn duration(field: &str, value: &PbDuration) -> Result<Duration, Fault> {
    let invalid = || Fault::at(field, "is not a duration from 0s to 315576000000s");
    let secs = u64::try_from(value.seconds).map_err(|_| invalid())?;
    let nanos = u32::try_from(value.nanos).map_err(|_| invalid())?;
    if secs > 315_576_000_000 || nanos > 999_999_999 {
        return Err(invalid());
    }
    Ok(Duration::new(secs, nanos))
}

/// Resources may come only from the stream that the message came on.
pub(crate) fn over_ads(field: &str, source: Option<&ConfigSource>) -> Result<(), Fault> {
    match source.and_then(|source| source.config_source_specifier.as_ref()) {
        Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)) => Ok(()),
        Some(_) => Err(Fault::at(field, "only `ads` and `self` are supported")),
        None => Err(Fault::at(field, "must be set")),
    }
}

/// An expression on a whole value.
pub(crate) fn regex(field: &str, matcher: &RegexMatcher) -> Result<Regex, Fault> {
    whole(&matcher.regex, false).map_err(|reason| Fault::at("regex", reason).under(field))
}

/// A condition on a string.
pub(crate) fn value_matcher(matcher: &StringMatcher) -> Result<ValueMatcher, Fault> {
    let Some(pattern) = &matcher.match_pattern else {
        return Err(Fault::at("match_pattern", "must be set"));
    };
    if matcher.ignore_case {
        let any = |text: &str| regex::escape(text);
        let (field, expression) = match pattern {
            MatchPattern::Exact(text) => ("exact", any(text)),
            MatchPattern::Prefix(text) => ("prefix", format!("{}.*", any(text))),
            MatchPattern::Suffix(text) => ("suffix", format!(".*{}", any(text))),
            MatchPattern::Contains(text) => ("contains", format!(".*{}.*", any(text))),
            MatchPattern::SafeRegex(_) => return Err(unsupported("ignore_case")),
            MatchPattern::Custom(_) => return Err(unsupported("custom")),
        };
        let expression = whole(&expression, true).map_err(|reason| Fault::at(field, reason))?;
        return Ok(ValueMatcher::Regex(expression));
    }
    Ok(match pattern {
        MatchPattern::Exact(text) => ValueMatcher::Exact(bytes(text)),
        MatchPattern::Prefix(text) => ValueMatcher::Prefix(bytes(text)),
        MatchPattern::Suffix(text) => ValueMatcher::Suffix(bytes(text)),
        MatchPattern::Contains(text) => ValueMatcher::Contains(bytes(text)),
        MatchPattern::SafeRegex(matcher) => ValueMatcher::Regex(regex("safe_regex", matcher)?),
        MatchPattern::Custom(_) => return Err(unsupported("custom")),
    })
}

/// The bytes of a text, owned.
pub(crate) fn bytes(text: &str) -> Box<[u8]> {
    Box::from(text.as_bytes())
}

/// On bytes, so that `.` also meets what is not UTF-8; by characters where the expression needs it.
fn whole(expression: &str, ignore_case: bool) -> Result<Regex, String> {
    let build = |unicode: bool| {
        RegexBuilder::new(&format!(r"\A(?:{expression})\z"))
            .unicode(unicode)
            .case_insensitive(ignore_case)
            .dot_matches_new_line(true)
            .size_limit(MAX_REGEX_BYTES)
            .build()
    };
    // The expression must stand on its own: `a)|(b` must not close our group.
    regex::bytes::RegexBuilder::new(expression)
        .size_limit(MAX_REGEX_BYTES)
        .build()
        .and_then(|_| build(false).or_else(|_| build(true)))
        .map_err(|error| format!("{expression:?} is no regular expression: {error}"))
}
