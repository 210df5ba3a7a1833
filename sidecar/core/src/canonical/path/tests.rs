//! The table of spellings, and properties against a naive reading of the same rules.

use proptest::prelude::*;

use super::*;

fn canon(path: &str, slashes: EscapedSlashes) -> Result<CanonPath, PathFault> {
    CanonPath::of(PathAndQuery::try_from(path).unwrap(), slashes)
}

fn spelled(path: &str) -> Result<String, PathFault> {
    canon(path, EscapedSlashes::Reject).map(|path| path.target().to_string())
}

#[test]
fn each_path_has_one_spelling() {
    for (given, expected) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("/a//b", "/a/b"),
        ("//admin", "/admin"),
        ("///", "/"),
        ("/a/./b", "/a/b"),
        ("/a/../admin", "/admin"),
        ("/../../admin", "/admin"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/a/..", "/"),
        ("/%61dmin", "/admin"),
        ("/%2e%2e/admin", "/admin"),
        ("/a/%2E%2e/admin", "/admin"),
        ("/a/.%2e/admin", "/admin"),
        ("/a%20b/..%20", "/a%20b/..%20"),
        ("/a%c3%a9", "/a%C3%A9"),
        ("/café", "/caf%C3%A9"),
        ("/a\\..\\admin", "/admin"),
        ("/\\admin", "/admin"),
        ("/a/..;/admin", "/admin"),
        ("/a/..;x=1;y/admin", "/admin"),
        ("/.;/admin", "/admin"),
        ("/;x/admin", "/admin"),
        ("/a;v=1/b;w", "/a;v=1/b;w"),
        ("/a/%252e%252e/admin", "/a/%252e%252e/admin"),
        ("/a/...", "/a/..."),
        ("/.well-known/x", "/.well-known/x"),
        ("/..a/.b.", "/..a/.b."),
        ("/a{b}", "/a%7Bb%7D"),
        ("/a%7bb%7D", "/a%7Bb%7D"),
        ("/a:b@c!$&'()*+,=~", "/a:b@c!$&'()*+,=~"),
        ("/a?x=/../%zz&y=%00//", "/a?x=/../%zz&y=%00//"),
        ("/a/../b?c", "/b?c"),
        ("?a", "/?a"),
    ] {
        assert_eq!(spelled(given).as_deref(), Ok(expected), "{given}");
    }
}

#[test]
fn what_has_no_one_spelling_is_refused() {
    for (given, fault) in [
        ("/%", PathFault::Escape),
        ("/%2", PathFault::Escape),
        ("/%zz", PathFault::Escape),
        ("/a%2", PathFault::Escape),
        ("/%+1", PathFault::Escape),
        ("/a%00", PathFault::Nul),
        ("/a%2fb", PathFault::EscapedSlash),
        ("/a%5Cb", PathFault::EscapedSlash),
        ("/a/..%3b/admin", PathFault::HiddenDots),
        ("/a/%2e%2e%3Bx/admin", PathFault::HiddenDots),
        ("*", PathFault::NoSlash),
    ] {
        assert_eq!(spelled(given), Err(fault), "{given}");
    }
    // The type of targets cuts fragments off; whoever reads bytes does not get past us either.
    assert_eq!(rewritten(b"/a#b", EscapedSlashes::Reject), Err(PathFault::Fragment));
}

/// What nearly all requests are made of costs no allocation: the bytes stay where they are.
#[test]
fn a_canonical_path_is_not_copied() {
    for path in ["/", "/a/b/", "/.well-known/x?y=//", "/a%20b/..%20/caf%C3%A9", "/..a/...?%zz"] {
        let target = PathAndQuery::try_from(path).unwrap();
        let bytes = target.as_str().as_ptr();
        let canonical = CanonPath::of(target, EscapedSlashes::Reject).unwrap();
        assert_eq!(canonical.target().as_str().as_ptr(), bytes, "{path}");
        assert_eq!(canonical.bare, None, "{path}");
    }
}

#[test]
fn escaped_slashes_go_by_the_mode() {
    let with = |path, slashes| canon(path, slashes).map(|path| path.path().to_owned());
    let (keep, unescape) = (EscapedSlashes::Keep, EscapedSlashes::Unescape);
    assert_eq!(with("/a%2fb%5c", keep).as_deref(), Ok("/a%2Fb%5C"));
    assert_eq!(with("/a/..%2fadmin", keep), Err(PathFault::HiddenDots));
    assert_eq!(with("/a/x%2F..%2Fadmin", keep), Err(PathFault::HiddenDots));
    assert_eq!(with("/a/x%5C..", keep), Err(PathFault::HiddenDots));
    assert_eq!(with("/a;x%2F..%2Fadmin", keep), Err(PathFault::HiddenDots));
    assert_eq!(with("/a;x%2F..;y/admin", keep), Err(PathFault::HiddenDots));
    assert_eq!(with("/a;x%2Fy..", keep).as_deref(), Ok("/a;x%2Fy.."));
    assert_eq!(with("/a/..%2fadmin", unescape).as_deref(), Ok("/admin"));
    assert_eq!(with("/a%5Cb", unescape).as_deref(), Ok("/a/b"));
}

#[test]
fn rules_do_not_see_parameters_and_the_upstream_does() {
    let path = canon("/v1;a=b/users;c/7?d", EscapedSlashes::Reject).unwrap();
    assert_eq!(path.matched(), "/v1/users/7");
    assert_eq!(path.target(), "/v1;a=b/users;c/7?d");
    assert_eq!(path.after("/v1"), Some("/users;c/7"));
    assert_eq!(path.after("/v1/"), Some("users;c/7"));
    assert_eq!(path.after("/v1/us"), Some("ers;c/7"));
    assert_eq!(path.after("/v1/users"), Some("/7"));
    assert_eq!(path.after("/v1/users/7"), Some(""));
    assert_eq!(path.after("/v2"), None);
    let plain = canon("/v1/users", EscapedSlashes::Reject).unwrap();
    assert_eq!((plain.matched(), plain.after("/v1")), ("/v1/users", Some("/users")));
}

#[test]
fn rules_are_spelled_as_paths_are() {
    for (given, expected) in [
        ("/a", "/a"),
        ("/%61%2d", "/a-"),
        ("/café/", "/caf%C3%A9/"),
        ("/a%2fb", "/a%2Fb"),
        ("/.", "/."),
        ("/a%", "/a%"),
    ] {
        assert_eq!(&*rule_path(given), expected);
    }
}

/// The rules again, one at a time on owned lists.
fn reference(path: &str, slashes: EscapedSlashes) -> Option<String> {
    let mut characters: Vec<String> = Vec::new();
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let (byte, escaped) = if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
            let text = String::from_utf8(digits.to_vec()).ok()?;
            (u8::from_str_radix(&text, 16).ok()?, true)
        } else {
            (byte, false)
        };
        let slash = byte == b'/' || byte == b'\\';
        let free = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let pchar = free || b"!$&'()*+,;=:@".contains(&byte);
        characters.push(match (escaped, slash) {
            _ if byte == 0 => return None,
            (true, true) if slashes == EscapedSlashes::Reject => return None,
            (true, true) if slashes == EscapedSlashes::Keep => format!("%{byte:02X}"),
            (_, true) => "/".to_owned(),
            (true, false) if free => char::from(byte).to_string(),
            (false, false) if pchar => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        });
    }
    let mut stack: Vec<String> = Vec::new();
    let all = characters.concat();
    let segments: Vec<&str> = all.split('/').skip(1).collect();
    for (i, segment) in segments.iter().enumerate() {
        let name = segment.split(';').next()?;
        let dots = name == "." || name == "..";
        let replaced = segment.replace("%2F", "/").replace("%5C", "/").replace("%3B", "/");
        let mut pieces = replaced.split('/').filter_map(|piece| piece.split(';').next());
        let hidden = replaced != *segment && pieces.any(|piece| piece == "." || piece == "..");
        if hidden && !dots && !name.is_empty() {
            return None;
        }
        if name == ".." {
            stack.pop();
        } else if !dots && !name.is_empty() {
            stack.push((*segment).to_owned());
        }
        if i + 1 == segments.len() && (dots || name.is_empty()) {
            stack.push(String::new());
        }
    }
    Some(format!("/{}", stack.join("/")))
}

fn paths() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "//", ".", "..", "%2e", "%2E", ";", ";x=1", "\\", "%2f", "%5C", "%3b", "%25", "%00",
        "%zz", "%", "a", "admin", "%61", "%C3%a9", "é", "{", "~", "%7e", "%20", ":", "@",
    ]);
    prop::collection::vec(piece, 0..9).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn modes() -> impl Strategy<Value = EscapedSlashes> {
    prop::sample::select(vec![
        EscapedSlashes::Reject,
        EscapedSlashes::Keep,
        EscapedSlashes::Unescape,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_path_is_spelled_as_the_reference_spells_it(path in paths(), mode in modes()) {
        let spelled = canon(&path, mode).ok().map(|path| path.path().to_owned());
        prop_assert_eq!(spelled, reference(&path, mode));
    }

    #[test]
    fn a_second_time_changes_nothing(path in paths(), mode in modes()) {
        if let Ok(once) = canon(&path, mode) {
            let twice = CanonPath::of(once.target().clone(), mode);
            prop_assert_eq!(twice, Ok(once));
        }
    }

    #[test]
    fn what_counts_as_canonical_is_not_changed(path in paths()) {
        if is_canonical(path.as_bytes()) {
            let long_way = rewritten(path.as_bytes(), EscapedSlashes::Reject);
            prop_assert_eq!(long_way, Ok(path));
        }
    }

    #[test]
    fn nothing_is_left_to_resolve(path in paths(), mode in modes()) {
        if let Ok(path) = canon(&path, mode) {
            for matched in [path.matched(), path.path()] {
                prop_assert!(matched.starts_with('/') && !matched.contains("//"));
                prop_assert!(!matched.split('/').any(|segment| segment == "." || segment == ".."));
            }
            prop_assert!(!path.matched().contains(';'));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
        for slashes in [EscapedSlashes::Reject, EscapedSlashes::Keep] {
            let _ = rewritten(&bytes, slashes);
        }
        if let Ok(target) = PathAndQuery::try_from(bytes.as_slice()) {
            let _ = CanonPath::of(target, EscapedSlashes::Unescape);
        }
    }
}
