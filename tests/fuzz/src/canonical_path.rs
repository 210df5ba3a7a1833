//! Paths: `r` (refuse), `k` (keep) or `u` (unescape escaped slashes), then the request target.

use http::uri::PathAndQuery;
use segue_sidecar_core::canonical::{CanonPath, EscapedSlashes, rule_path};

pub fn check(bytes: &[u8]) {
    let Some((mode, target)) = bytes.split_first() else { return };
    let slashes = match mode {
        b'k' => EscapedSlashes::Keep,
        b'u' => EscapedSlashes::Unescape,
        _ => EscapedSlashes::Reject,
    };
    if let Ok(text) = str::from_utf8(target) {
        let rule = rule_path(text);
        assert_eq!(rule_path(&rule), rule, "a rule has one spelling");
    }
    let Ok(target) = PathAndQuery::try_from(target) else { return };
    let Ok(path) = CanonPath::of(target.clone(), slashes) else { return };
    assert_eq!(path.query(), target.query(), "the query is untouched");
    let again = CanonPath::of(path.target().clone(), slashes);
    assert_eq!(again.as_ref(), Ok(&path), "a second time changes nothing");
    one_spelling(path.path(), slashes);
    for seen in [path.path(), path.matched()] {
        assert!(seen.starts_with('/'), "{seen}");
        assert!(!seen.contains("//"), "{seen}");
        no_dots(seen);
    }
    assert!(!path.matched().contains(';'), "{}", path.matched());
    // A backend that unescapes before it looks finds no dots either.
    no_dots(&unescaped(path.path()));
    for (end, _) in path.matched().match_indices('/') {
        let prefix = &path.matched()[..end];
        let after = path.after(prefix).unwrap_or_else(|| panic!("it begins with {prefix}"));
        assert!(path.path().ends_with(after), "{after}");
    }
}

/// Each character stands there in the only way in which it may.
fn one_spelling(path: &str, slashes: EscapedSlashes) {
    let mut rest = path.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            let plain = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(byte);
            assert!(plain, "{:?} in {path}", char::from(*byte));
            continue;
        }
        let digits = str::from_utf8(&after[..2]).unwrap();
        assert_eq!(digits, digits.to_ascii_uppercase());
        let byte = u8::from_str_radix(digits, 16).unwrap();
        assert!(byte != 0 && !byte.is_ascii_alphanumeric(), "{path}");
        assert!(!b"-._~".contains(&byte), "{path}");
        let slash = matches!(byte, b'/' | b'\\');
        assert!(!slash || slashes == EscapedSlashes::Keep, "{path}");
        rest = &after[2..];
    }
}

/// Segments, without their parameters, are neither `.` nor `..`.
fn no_dots(path: &str) {
    for segment in path.split(['/', '\\']) {
        let name = segment.split(';').next().unwrap_or_default();
        assert!(name != "." && name != "..", "{segment:?} in {path:?}");
    }
}

fn unescaped(path: &str) -> String {
    let mut pieces = path.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).unwrap());
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
