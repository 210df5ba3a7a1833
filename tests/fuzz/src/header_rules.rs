//! Rules on headers: a line with the rule (`exact`, `prefix`, `suffix`, `contains`, `regex` or
//! `present`; flags, of which `i` inverts and `m` takes a missing header for an empty one; the value),
//! then the lines of the header.

use http::{HeaderMap, HeaderName, HeaderValue};
use regex::bytes::{Regex, RegexBuilder};
use segue_sidecar_core::snapshot::{HeaderMatcher, ValueMatcher};

use crate::input::{lines, word};

const NAME: HeaderName = HeaderName::from_static("x-user");
/// Of an expression, so that none is slow to compile.
const MOST_REGEX_BYTES: usize = 1 << 16;

pub fn check(bytes: &[u8]) {
    let mut lines = lines(bytes);
    let (kind, rest) = word(lines.next().unwrap_or_default());
    let (flags, wanted) = word(rest);
    let Some(value) = value_matcher(kind, wanted) else { return };
    let (invert, missing_is_empty) = (flags.contains(&b'i'), flags.contains(&b'm'));
    let rule = HeaderMatcher { name: NAME, value, invert, missing_is_empty };
    let values: Vec<HeaderValue> =
        lines.filter_map(|line| HeaderValue::from_bytes(line).ok()).collect();
    let found = rule.matches(&headers(&values));
    assert_eq!(found, reference(&rule, &values), "{rule:?} on {values:?}");
    // More lines take no request out of a rule.
    if values.iter().any(|value| rule.matches(&headers(std::slice::from_ref(value)))) {
        assert!(found, "{rule:?} on {values:?}");
    }
}

fn value_matcher(kind: &[u8], wanted: &[u8]) -> Option<ValueMatcher> {
    let value = || Box::from(wanted);
    Some(match kind {
        b"exact" => ValueMatcher::Exact(value()),
        b"prefix" => ValueMatcher::Prefix(value()),
        b"suffix" => ValueMatcher::Suffix(value()),
        b"contains" => ValueMatcher::Contains(value()),
        b"regex" => ValueMatcher::Regex(whole(str::from_utf8(wanted).ok()?)?),
        b"present" => ValueMatcher::Present,
        _ => return None,
    })
}

fn whole(expression: &str) -> Option<Regex> {
    // By itself first: `)(` is an expression only between others' brackets.
    let build = |text: &str| RegexBuilder::new(text).size_limit(MOST_REGEX_BYTES).build().ok();
    build(expression).and_then(|_| build(&format!(r"\A(?:{expression})\z")))
}

fn headers(values: &[HeaderValue]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(NAME, value.clone());
    }
    headers
}

/// What the rules of the house say, told slowly.
fn reference(rule: &HeaderMatcher, values: &[HeaderValue]) -> bool {
    let there = !values.is_empty() || rule.missing_is_empty;
    if matches!(rule.value, ValueMatcher::Present) {
        return there != rule.invert;
    }
    let mut seen: Vec<Vec<u8>> = values.iter().map(|value| value.as_bytes().to_vec()).collect();
    seen.push(seen.join(&b','));
    there && seen.iter().any(|value| meets(&rule.value, value) != rule.invert)
}

fn meets(rule: &ValueMatcher, value: &[u8]) -> bool {
    match rule {
        ValueMatcher::Present => true,
        ValueMatcher::Exact(wanted) => wanted.as_ref() == value,
        ValueMatcher::Prefix(wanted) => {
            value.iter().zip(wanted).filter(|(a, b)| a == b).count() == wanted.len()
        }
        ValueMatcher::Suffix(wanted) => {
            let backwards = value.iter().rev().zip(wanted.iter().rev());
            backwards.filter(|(a, b)| a == b).count() == wanted.len()
        }
        ValueMatcher::Contains(wanted) => {
            (0..=value.len()).any(|at| value[at..].starts_with(wanted))
        }
        ValueMatcher::Regex(regex) => {
            let text = String::from_utf8_lossy(value);
            regex.is_match(value) || regex.is_match(text.as_bytes())
        }
    }
}
