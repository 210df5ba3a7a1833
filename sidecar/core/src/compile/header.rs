//! `HeaderMatcher` and `HeaderValueOption`.
//!
//! | field | taken |
//! |---|---|
//! | `string_match`, `exact_match`, `prefix_match`, `suffix_match`, `contains_match`, `safe_regex_match`, `present_match`, `invert_match`, `treat_missing_header_as_empty` | yes |
//! | `:method` matched exactly | yes, as the method; other pseudo-headers are refused |
//! | `range_match` | refused |
//! | `append`, `append_action` `APPEND_IF_EXISTS_OR_ADD` and `OVERWRITE_IF_EXISTS_OR_ADD` | yes |
//! | other `append_action`s, values with `%COMMANDS%` | refused |

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::config::route::v3::HeaderMatcher as PbHeaderMatcher;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use http::{HeaderName, HeaderValue, Method};

use super::field::{bytes, regex, unsupported, value_matcher};
use crate::reject::Fault;
use crate::snapshot::{HeaderEdit, HeaderEdits, HeaderMatcher, ValueMatcher};

/// A condition on the head of a request.
pub(crate) enum HeadMatcher {
    Header(HeaderMatcher),
    Method(Method),
}

/// Compiles a condition on a header or pseudo-header.
// Control planes still send the older forms.
#[allow(deprecated)]
pub(crate) fn header_matcher(matcher: &PbHeaderMatcher) -> Result<HeadMatcher, Fault> {
    let mut invert = matcher.invert_match;
    let value = match &matcher.header_match_specifier {
        None => ValueMatcher::Present,
        Some(HeaderMatchSpecifier::PresentMatch(present)) => {
            invert ^= !present;
            ValueMatcher::Present
        }
        Some(HeaderMatchSpecifier::StringMatch(text)) => {
            value_matcher(text).map_err(|fault| fault.under("string_match"))?
        }
        Some(HeaderMatchSpecifier::ExactMatch(text)) => ValueMatcher::Exact(bytes(text)),
        Some(HeaderMatchSpecifier::PrefixMatch(text)) => ValueMatcher::Prefix(bytes(text)),
        Some(HeaderMatchSpecifier::SuffixMatch(text)) => ValueMatcher::Suffix(bytes(text)),
        Some(HeaderMatchSpecifier::ContainsMatch(text)) => ValueMatcher::Contains(bytes(text)),
        Some(HeaderMatchSpecifier::SafeRegexMatch(expression)) => {
            ValueMatcher::Regex(regex("safe_regex_match", expression)?)
        }
        Some(HeaderMatchSpecifier::RangeMatch(_)) => return Err(unsupported("range_match")),
    };
    if matcher.name == ":method"
        && let (ValueMatcher::Exact(method), false) = (&value, invert)
    {
        return Method::from_bytes(method)
            .map(HeadMatcher::Method)
            .map_err(|_| Fault::at("string_match.exact", "is no method"));
    }
    let name = header_name("name", &matcher.name)?;
    let missing_is_empty = matcher.treat_missing_header_as_empty;
    Ok(HeadMatcher::Header(HeaderMatcher { name, value, invert, missing_is_empty }))
}

/// Headers added and removed by one level: a route, a virtual host or a route configuration.
pub(crate) fn header_edits(
    direction: &str,
    add: &[HeaderValueOption],
    remove: &[String],
) -> Result<HeaderEdits, Fault> {
    let mut edits = HeaderEdits::default();
    for (i, name) in remove.iter().enumerate() {
        let field = format!("{direction}_headers_to_remove[{i}]");
        edits.remove.push(editable(header_name(&field, name)?, &field)?);
    }
    for (i, option) in add.iter().enumerate() {
        let field = format!("{direction}_headers_to_add[{i}]");
        if let Some(edit) = header_edit(option).map_err(|fault| fault.under(&field))? {
            edits.edits.push(edit);
        }
    }
    Ok(edits)
}

/// Edits of several levels in the order in which they apply, as one: what a later level removes, an
/// earlier one did not add.
pub(crate) fn merged<'a>(levels: impl Iterator<Item = &'a HeaderEdits>) -> HeaderEdits {
    let mut all = HeaderEdits::default();
    for level in levels {
        all.edits.retain(|edit| !level.remove.contains(&edit.name));
        all.remove.extend(level.remove.iter().cloned());
        all.edits.extend(level.edits.iter().cloned());
    }
    all
}

// Control planes still send the older `append`.
#[allow(deprecated)]
fn header_edit(option: &HeaderValueOption) -> Result<Option<HeaderEdit>, Fault> {
    let header = option.header.as_ref().ok_or_else(|| Fault::at("header", "must be set"))?;
    let name = editable(header_name("header.key", &header.key)?, "header.key")?;
    let text = if header.value.is_empty() {
        header.raw_value.clone()
    } else {
        literal(&header.value)?.into_bytes()
    };
    if text.is_empty() && !option.keep_empty_value {
        return Ok(None);
    }
    let value = HeaderValue::from_bytes(&text)
        .map_err(|_| Fault::at("header.value", "is no header value"))?;
    // APPEND_IF_EXISTS_OR_ADD and OVERWRITE_IF_EXISTS_OR_ADD; the older `append` goes first.
    let append = match (option.append.as_ref(), option.append_action) {
        (Some(append), _) => append.value,
        (None, 0) => true,
        (None, 2) => false,
        (None, _) => return Err(unsupported("append_action")),
    };
    Ok(Some(HeaderEdit { name, value, append }))
}

/// A value without substitution commands; `%%` stands for `%`.
fn literal(text: &str) -> Result<String, Fault> {
    if text.replace("%%", "").contains('%') {
        return Err(Fault::at("header.value", "substitution commands are not supported"));
    }
    Ok(text.replace("%%", "%"))
}

pub(crate) fn header_name(field: &str, name: &str) -> Result<HeaderName, Fault> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| Fault::at(field, format!("{name:?} is no header name")))
}

/// Framing and routing are not for edits (request smuggling).
fn editable(name: HeaderName, field: &str) -> Result<HeaderName, Fault> {
    match name.as_str() {
        "host" | "content-length" | "transfer-encoding" | "connection" => {
            Err(Fault::at(field, format!("{name} must not be changed")))
        }
        _ => Ok(name),
    }
}
