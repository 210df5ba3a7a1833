//! Conditions on headers, on bytes.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use regex::bytes::Regex;

use crate::snapshot::{HeaderMatcher, ValueMatcher};

/// The value of a header; several lines are joined by `,` (RFC 9110 section 5.3). Allocates only for
/// several lines.
pub fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?.as_bytes();
    let Some(second) = lines.next() else { return Some(Cow::Borrowed(first)) };
    let mut all = first.to_vec();
    for line in std::iter::once(second).chain(lines) {
        all.push(b',');
        all.extend_from_slice(line.as_bytes());
    }
    Some(Cow::Owned(all))
}

impl HeaderMatcher {
    /// Whether the headers meet the condition. A header that is not there meets no condition on its
    /// value, inverted or not (as in Envoy), unless it counts as empty. Of several lines of one
    /// name it is enough that one of them meets it, or all of them joined: a second line takes no
    /// request out of a rule that a line alone would fall under, inverted or not.
    pub fn matches(&self, headers: &HeaderMap) -> bool {
        if matches!(self.value, ValueMatcher::Present) {
            return (headers.contains_key(&self.name) || self.missing_is_empty) != self.invert;
        }
        let meets = |value: &[u8]| self.value.matches(value) != self.invert;
        match joined(headers, &self.name) {
            Some(Cow::Borrowed(only)) => meets(only),
            Some(Cow::Owned(all)) => {
                meets(&all) || headers.get_all(&self.name).iter().any(|it| meets(it.as_bytes()))
            }
            None if self.missing_is_empty => meets(b""),
            None => false,
        }
    }
}

impl ValueMatcher {
    /// Whether a value that is there meets the condition.
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(exact) => value == &**exact,
            Self::Prefix(prefix) => value.starts_with(prefix),
            Self::Suffix(suffix) => value.ends_with(suffix),
            Self::Contains(part) => {
                part.is_empty() || value.windows(part.len()).any(|window| window == &**part)
            }
            Self::Regex(regex) => regex.is_match(value) || matches_as_text(regex, value),
        }
    }
}

/// Expressions that need Unicode do not look at bytes that are no UTF-8 and would let every value
/// that holds one go by: they see such bytes as U+FFFD.
fn matches_as_text(regex: &Regex, value: &[u8]) -> bool {
    match String::from_utf8_lossy(value) {
        Cow::Owned(text) => regex.is_match(text.as_bytes()),
        Cow::Borrowed(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn matcher(value: ValueMatcher, invert: bool) -> HeaderMatcher {
        let name = HeaderName::from_static("x-user");
        HeaderMatcher { name, value, invert, missing_is_empty: false }
    }

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-user", HeaderValue::from_bytes(line).unwrap());
        }
        headers
    }

    #[test]
    fn several_lines_are_one_value() {
        let exact = matcher(ValueMatcher::Exact(Box::from(&b"a,b"[..])), false);
        assert!(exact.matches(&headers(&[b"a", b"b"])));
        assert!(exact.matches(&headers(&[b"a,b"])));
        assert!(!exact.matches(&headers(&[b"b", b"a"])));
    }

    #[test]
    fn a_second_line_takes_no_request_out_of_a_rule() {
        let admin = || ValueMatcher::Exact(Box::from(&b"admin"[..]));
        for lines in [[&b"user"[..], b"admin"], [b"admin", b"user"]] {
            assert!(matcher(admin(), false).matches(&headers(&lines)));
            assert!(matcher(admin(), true).matches(&headers(&lines)));
        }
        assert!(!matcher(admin(), true).matches(&headers(&[b"admin"])));
        assert!(!matcher(admin(), false).matches(&headers(&[b"user", b"guest"])));
    }

    #[test]
    fn values_that_are_not_text_do_not_escape_a_rule() {
        let any = regex::bytes::RegexBuilder::new(r"\A(?:.*)\z").unicode(false).build().unwrap();
        let odd = headers(&[b"\xff\xfe-admin"]);
        assert!(matcher(ValueMatcher::Regex(any), false).matches(&odd));
        let unicode = regex::bytes::Regex::new(r"\A(?:.*\p{L}+)\z").unwrap();
        assert!(matcher(ValueMatcher::Regex(unicode.clone()), false).matches(&odd));
        assert!(!matcher(ValueMatcher::Regex(unicode), true).matches(&odd));
        assert!(matcher(ValueMatcher::Suffix(Box::from(&b"-admin"[..])), false).matches(&odd));
        assert!(matcher(ValueMatcher::Contains(Box::from(&b"\xfe-"[..])), false).matches(&odd));
    }

    #[test]
    fn a_missing_header_meets_only_an_inverted_presence() {
        let none = HeaderMap::new();
        assert!(!matcher(ValueMatcher::Exact(Box::from(&b"a"[..])), false).matches(&none));
        assert!(!matcher(ValueMatcher::Exact(Box::from(&b"a"[..])), true).matches(&none));
        assert!(matcher(ValueMatcher::Present, true).matches(&none));
        assert!(!matcher(ValueMatcher::Present, false).matches(&none));
        let mut empty = matcher(ValueMatcher::Exact(Box::from(&b"a"[..])), true);
        empty.missing_is_empty = true;
        assert!(empty.matches(&none));
    }

    proptest! {
        #[test]
        fn inversion_turns_every_answer_on_a_value(
            value in prop::collection::vec(0x21u8..=0x7e, 0..8),
            wanted in prop::collection::vec(0x21u8..=0x7e, 0..3),
        ) {
            for make in [ValueMatcher::Exact, ValueMatcher::Prefix, ValueMatcher::Suffix, ValueMatcher::Contains] {
                let headers = headers(&[&value]);
                let plain = matcher(make(wanted.clone().into()), false).matches(&headers);
                let inverted = matcher(make(wanted.clone().into()), true).matches(&headers);
                prop_assert_ne!(plain, inverted);
            }
        }
    }
}
