//! 2b rows 18 and 19: spellings of a path against a rule that keeps `/admin` closed. A spelling is
//! refused, falls under the rule, or is forwarded in a form in which no kind of backend finds
//! `/admin`.

use segue_sidecar::http::Door;
use segue_sidecar_core::canonical::EscapedSlashes;
use segue_sidecar_core::snapshot::PathMatcher;

use crate::capture::{Capture, Plane};
use crate::judge::send;
use crate::raw_http2::{Outcome, RawHttp2};
use crate::rules::denying;
use crate::support::Chat;

/// What becomes of a spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Refused,
    /// By the rule on `/admin`.
    Denied,
    /// With this target.
    Passed(&'static str),
}

use Fate::{Denied, Passed, Refused};

const SPELLINGS: &[(&str, Fate)] = &[
    ("/admin", Denied),
    ("/admin/", Denied),
    ("/admin/users", Denied),
    ("/admin?x", Denied),
    ("//admin", Denied),
    ("///admin//users", Denied),
    ("/./admin", Denied),
    ("/././/admin", Denied),
    ("/a/../admin", Denied),
    ("/a/b/../../admin", Denied),
    ("/../admin", Denied),
    ("/../../../admin", Denied),
    ("/a/..//admin", Denied),
    ("/%61dmin", Denied),
    ("/%61%64%6D%69%6e", Denied),
    ("/admin%2Fusers", Refused),
    ("/a/..%2fadmin", Refused),
    ("/a%2F..%2Fadmin", Refused),
    ("/%2Fadmin", Refused),
    ("/a/..%5cadmin", Refused),
    ("/a/%2e%2e/admin", Denied),
    ("/a/%2E%2E/admin", Denied),
    ("/a/.%2e/admin", Denied),
    ("/a/%2e./admin", Denied),
    ("/%2e/admin", Denied),
    ("/a/%252e%252e/admin", Passed("/a/%252e%252e/admin")),
    ("/%2561dmin", Passed("/%2561dmin")),
    ("/a\\..\\admin", Denied),
    ("/\\admin", Denied),
    ("/a/..\\admin", Denied),
    ("/admin\\users", Denied),
    ("/admin;x", Denied),
    ("/admin;x=1/users", Denied),
    ("/admin;/", Denied),
    ("/a/..;/admin", Denied),
    ("/a/..;x=y/admin", Denied),
    ("/a;x/../admin", Denied),
    ("/.;/admin", Denied),
    ("/;/admin", Denied),
    ("/;x=1/admin", Denied),
    ("/a/;/../admin", Denied),
    ("/a/%2e%2e;/admin", Denied),
    ("/a/..%3b/admin", Refused),
    ("/a/..%3Bx/admin", Refused),
    ("/.%3b/admin", Refused),
    ("/admin%00", Refused),
    ("/admin%00.html", Refused),
    ("/%00/../admin", Refused),
    ("/%zz/../admin", Refused),
    ("/admin%", Refused),
    ("/admin%2", Refused),
    ("/%u0061dmin", Refused),
    ("/admin/.", Denied),
    ("/admin/..", Passed("/")),
    ("/admin/../a", Passed("/a")),
    ("/a?/../admin", Passed("/a?/../admin")),
    ("/a?x=%2e%2e%2fadmin", Passed("/a?x=%2e%2e%2fadmin")),
    ("/a;/../admin;", Denied),
    ("/administrator", Passed("/administrator")),
    ("/...//admin", Passed("/.../admin")),
    ("/a../admin", Passed("/a../admin")),
    ("/..a/admin", Passed("/..a/admin")),
    ("/a%20/../admin", Denied),
    ("/caf%c3%a9", Passed("/caf%C3%A9")),
    ("/caf\u{e9}", Passed("/caf%C3%A9")),
    ("/a;v=1/b", Passed("/a;v=1/b")),
];

/// Fragments are no part of a request; the codec must see to it.
const FRAGMENTS: &[&str] = &["/admin#x", "/a#/../admin", "/#"];
/// Fragments that hyper's type of targets cuts off without a word; must shrink.
const KNOWN_FRAGMENTS: &[&str] = &[];

fn plane(upstream: &Capture, door: Door) -> Plane {
    let path = PathMatcher::SegmentPrefix("/admin".into());
    let snapshot = denying(&Chat::http1(upstream.address), path, Vec::new());
    Plane::with(snapshot, upstream.address, door)
}

async fn fate(plane: &Plane, upstream: &Capture, target: &str) -> Result<Option<String>, u16> {
    let before = upstream.requests().len();
    let ask = format!("GET {target} HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n");
    let seen = send(plane.outbound, ask.as_bytes()).await;
    came_of(seen.status(), upstream, before)
}

fn came_of(status: u16, upstream: &Capture, before: usize) -> Result<Option<String>, u16> {
    match (&upstream.requests()[before..], status) {
        ([only], 200) => Ok(Some(only.target().to_owned())),
        ([], 403) => Ok(None),
        ([], 400) => Err(400),
        (other, status) => panic!("{status} and {other:?}"),
    }
}

fn as_expected(fate: Fate) -> Result<Option<String>, u16> {
    match fate {
        Refused => Err(400),
        Denied => Ok(None),
        Passed(target) => Ok(Some(target.to_owned())),
    }
}

#[tokio::test]
async fn no_spelling_gets_by_a_rule() {
    assert!(SPELLINGS.len() >= 60);
    let upstream = Capture::start().await;
    let plane = plane(&upstream, Door::default());
    for (target, expected) in SPELLINGS {
        let came = fate(&plane, &upstream, target).await;
        assert_eq!(came, as_expected(*expected), "19 {target}");
    }
    for request in upstream.requests() {
        for finds in BACKENDS {
            let path = finds(request.target().split('?').next().unwrap());
            assert!(!is_admin(&path), "19 a backend finds {path} in {}", request.target());
        }
    }
}

#[tokio::test]
async fn no_spelling_gets_by_a_rule_over_http2() {
    let upstream = Capture::start().await;
    let plane = plane(&upstream, Door::default());
    for (target, expected) in SPELLINGS {
        let before = upstream.requests().len();
        let mut caller = RawHttp2::connect(plane.outbound).await;
        caller.get(1, target).await;
        let came = match caller.outcome(1).await {
            Outcome::Status(status) => came_of(status, &upstream, before),
            // What HTTP/2 itself does not take is refused as well.
            Outcome::Reset(_) | Outcome::GoAway(_) => came_of(400, &upstream, before),
            other => panic!("19 {target}: {other:?}"),
        };
        assert_eq!(came, as_expected(*expected), "19 {target}");
    }
    // 18: no slash (CVE-2026-33186).
    for target in ["admin", "", "*", "chat:80"] {
        let mut caller = RawHttp2::connect(plane.outbound).await;
        let before = upstream.requests().len();
        caller.get(1, target).await;
        let outcome = caller.outcome(1).await;
        assert!(outcome.is_refusal(), "18 {target:?}: {outcome:?}");
        assert_eq!(upstream.requests().len(), before, "18 {target:?}");
    }
}

#[tokio::test]
async fn escaped_slashes_pass_where_they_are_wanted_and_hide_nothing() {
    let upstream = Capture::start().await;
    let keeping = Door { escaped_slashes: EscapedSlashes::Keep, ..Door::default() };
    let keeping = plane(&upstream, keeping);
    for (target, expected) in [
        ("/a%2fb", Passed("/a%2Fb")),
        ("/a/..%2fadmin", Refused),
        ("/a%2f..%5cadmin", Refused),
        ("/x%2F../admin", Refused),
    ] {
        assert_eq!(fate(&keeping, &upstream, target).await, as_expected(expected), "19 {target}");
    }
    let unescaping = Door { escaped_slashes: EscapedSlashes::Unescape, ..Door::default() };
    let unescaping = plane(&upstream, unescaping);
    for (target, expected) in [
        ("/a%2fb", Passed("/a/b")),
        ("/a/..%2fadmin", Denied),
        ("/a%5c..%5cadmin", Denied),
        ("/%2fadmin", Denied),
    ] {
        assert_eq!(
            fate(&unescaping, &upstream, target).await,
            as_expected(expected),
            "19 {target}"
        );
    }
}

#[tokio::test]
async fn fragments_are_refused() {
    let upstream = Capture::start().await;
    let plane = plane(&upstream, Door::default());
    for target in FRAGMENTS {
        let before = upstream.requests().len();
        let ask = format!("GET {target} HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n");
        let status = send(plane.outbound, ask.as_bytes()).await.status();
        let refused = status == 400 && upstream.requests().len() == before;
        assert_ne!(refused, KNOWN_FRAGMENTS.contains(target), "19 {target}: {status}");
        // Whatever is cut off, the rule sees what the upstream sees.
        for request in &upstream.requests()[before..] {
            assert!(!request.target().contains('#') && !is_admin(request.target()), "{target}");
        }
    }
}

/// The type of targets cuts fragments off before we see them. Whatever is left, the rule sees what the
/// upstream sees.
#[tokio::test]
async fn fragments_hide_nothing_over_http2() {
    let upstream = Capture::start().await;
    let plane = plane(&upstream, Door::default());
    for target in FRAGMENTS {
        let before = upstream.requests().len();
        let mut caller = RawHttp2::connect(plane.outbound).await;
        caller.get(1, target).await;
        let outcome = caller.outcome(1).await;
        assert!(matches!(outcome, Outcome::Status(200 | 400 | 403)), "19 {target}: {outcome:?}");
        for request in &upstream.requests()[before..] {
            assert!(!request.target().contains('#') && !is_admin(request.target()), "{target}");
        }
    }
}

/// How kinds of backends find a path in what they get.
const BACKENDS: &[fn(&str) -> String] = &[
    // Decode, then resolve.
    |path| resolved(&decoded(path)),
    // Take parameters off, decode, take backslashes for slashes, resolve.
    |path| resolved(&decoded(&without_parameters(path)).replace('\\', "/")),
    // Decode, take parameters off, resolve.
    |path| resolved(&without_parameters(&decoded(path))),
    // Up to the first NUL, as C does.
    |path| resolved(decoded(path).split('\0').next().unwrap_or("")),
];

fn is_admin(path: &str) -> bool {
    path == "/admin" || path.starts_with("/admin/")
}

fn decoded(path: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), path.as_bytes());
    while let [byte, after @ ..] = rest {
        let digits = after.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(escaped) if *byte == b'%' => {
                bytes.push(escaped);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn without_parameters(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').map(|it| it.split(';').next().unwrap()).collect();
    segments.join("/")
}

fn resolved(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}
