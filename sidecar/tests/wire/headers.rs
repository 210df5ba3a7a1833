//! 2b rows 20 and 22 to 25: which headers and methods pass.

use http::HeaderName;
use segue_sidecar::http::Door;
use segue_sidecar_core::snapshot::{HeaderMatcher, PathMatcher, ValueMatcher};

use crate::capture::{Capture, Plane};
use crate::judge::{Expected, Row, forwarded, judge, refused, row, send, unreadable};
use crate::rules::denying;
use crate::support::Chat;

fn with(name: &'static str, lines: &str, expected: Expected) -> Row {
    row(name, format!("GET /a HTTP/1.1\r\nHost: chat\r\n{lines}\r\n"), expected)
}

fn method(name: &'static str, method: &str, expected: Expected) -> Row {
    row(name, format!("{method} /a HTTP/1.1\r\nHost: chat\r\n\r\n"), expected)
}

#[tokio::test]
async fn what_concerns_one_connection_stays_there() {
    let clean = || forwarded("GET /a HTTP/1.1\nhost: chat");
    judge(
        vec![
            with("20 Keep-Alive", "Keep-Alive: timeout=5\r\n", clean()),
            with("20 Proxy-Connection", "Proxy-Connection: keep-alive\r\n", clean()),
            with("20 TE", "TE: gzip\r\n", clean()),
            with("20 TE trailers", "TE: trailers\r\nConnection: TE\r\n", clean()),
            with("20 a listed header", "Connection: X-Auth\r\nX-Auth: 1\r\n", clean()),
            with(
                "20 listed in two lines",
                "Connection: X-A\r\nX-A: 1\r\nConnection: close, x-b\r\nX-B: 1\r\n",
                clean(),
            ),
            with("20 Host listed", "Connection: Host\r\n", refused(400)),
            with(
                "20 X-Forwarded-For listed",
                "Connection: close, X-Forwarded-For\r\nX-Forwarded-For: 1.1.1.1\r\n",
                refused(400),
            ),
            with("20 Authorization listed", "Connection: authorization\r\n", refused(400)),
            with("20 a header of the mesh listed", "Connection: x-segue-session\r\n", refused(400)),
            with("20 Content-Length listed", "Connection: content-length\r\n", refused(400)),
            with("20 a pseudo header listed", "Connection: :authority\r\n", refused(400)),
            with("20 no token", "Connection: a b\r\n", refused(400)),
            with("20 Proxy-Authorization", "Proxy-Authorization: Basic eA==\r\n", clean()),
        ],
        &[],
    )
    .await;
}

#[tokio::test]
async fn a_header_has_one_meaning() {
    let lenient = Door { underscores: true, ..Door::default() };
    judge(
        vec![
            with(
                "22 two values of a list pass",
                "X-Role: user\r\nX-Role: admin\r\n",
                forwarded("GET /a HTTP/1.1\nhost: chat\nx-role: user\nx-role: admin"),
            ),
            with(
                "22 Authorization twice",
                "Authorization: a\r\nAuthorization: b\r\n",
                refused(400),
            ),
            with(
                "22 Content-Type twice",
                "Content-Type: a/b\r\nContent-Type: c/d\r\n",
                refused(400),
            ),
            with(
                "22 the same User-Agent twice",
                "User-Agent: a\r\nUser-Agent: a\r\n",
                refused(400),
            ),
            with("22 Range twice", "Range: bytes=0-1\r\nRange: bytes=2-3\r\n", refused(400)),
            with(
                "22 Cookie twice is one line",
                "Cookie: a=1\r\nCookie: b=2\r\n",
                forwarded("GET /a HTTP/1.1\nhost: chat\ncookie: a=1; b=2"),
            ),
            row(
                "23 bytes that are no text pass as they are",
                b"GET /a HTTP/1.1\r\nHost: chat\r\nX: caf\xe9\r\n\r\n",
                forwarded("GET /a HTTP/1.1\nhost: chat\nx: caf\u{e9}"),
            ),
            with("24 an underscore", "client_id: 1\r\n", refused(400)),
            with("24 Content_Length", "Content_Length: 5\r\n", refused(400)),
            Row {
                door: lenient.clone(),
                ..with(
                    "24 an underscore that is allowed",
                    "client_id: 1\r\n",
                    forwarded("GET /a HTTP/1.1\nhost: chat\nclient_id: 1"),
                )
            },
            Row {
                door: lenient.clone(),
                ..with(
                    "24 Transfer_Encoding though underscores are allowed",
                    "Transfer_Encoding: chunked\r\n",
                    refused(400),
                )
            },
            Row {
                door: lenient,
                ..with(
                    "24 X-Segue_Session though underscores are allowed",
                    "X-Segue_Session: v2\r\n",
                    refused(400),
                )
            },
        ],
        &[],
    )
    .await;
}

#[tokio::test]
async fn methods_pass_as_tokens_and_none_opens_a_tunnel() {
    let head = |method: &str| forwarded(&format!("{method} /a HTTP/1.1\nhost: chat"));
    judge(
        vec![
            method("25 TRACE", "TRACE", refused(405)),
            row("25 CONNECT", "CONNECT chat:80 HTTP/1.1\r\nHost: chat:80\r\n\r\n", refused(405)),
            row("25 CONNECT with bytes behind it", "CONNECT chat:80 HTTP/1.1\r\nHost: chat:80\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: chat\r\n\r\n", refused(405)),
            method("25 lower case", "get", head("get")),
            method("25 unknown", "PURGE", head("PURGE")),
            method("25 no token", "G=\"x", unreadable(400)),
            method("25 not ASCII", "G\u{c9}T", unreadable(400)),
        ],
        &[],
    )
    .await;
}

/// 22, 23: rules look at every value, at its bytes.
#[tokio::test]
async fn no_value_gets_by_a_rule() {
    let admin = || ValueMatcher::Exact(Box::from(&b"admin"[..]));
    let all = |unicode, text: &str| {
        let whole = format!(r"\A(?:{text})\z");
        let mut builder = regex::bytes::RegexBuilder::new(&whole);
        ValueMatcher::Regex(builder.unicode(unicode).dot_matches_new_line(true).build().unwrap())
    };
    // The rule, whether it is turned round, the lines, and whether they are denied.
    for (value, invert, lines, denied) in [
        (admin(), false, &b"X-Role: user\r\nX-Role: admin\r\n"[..], true),
        (admin(), false, b"X-Role: admin\r\nX-Role: user\r\n", true),
        (admin(), false, b"x-role: user\r\n", false),
        (admin(), true, b"X-Role: admin\r\nX-Role: user\r\n", true),
        (admin(), true, b"X-Role: admin\r\n", false),
        (all(false, ".*admin.*"), false, b"X-Role: caf\xe9 admin\r\n", true),
        (all(true, r".*\p{L}+min.*"), false, b"X-Role: \xe9\xff admin\r\n", true),
        (all(false, "[a-z]*"), true, b"X-Role: caf\xe9\r\n", true),
        (all(true, r"\p{L}*"), true, b"X-Role: caf\xe9\r\n", true),
    ] {
        let upstream = Capture::start().await;
        let told = format!("{value:?} {invert} {}", String::from_utf8_lossy(lines));
        let rule = HeaderMatcher {
            name: HeaderName::from_static("x-role"),
            value,
            invert,
            missing_is_empty: false,
        };
        let path = PathMatcher::Prefix("/".into());
        let snapshot = denying(&Chat::http1(upstream.address), path, vec![rule]);
        let plane = Plane::with(snapshot, upstream.address, Door::default());
        let mut ask = b"GET /a HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n".to_vec();
        ask.extend_from_slice(lines);
        ask.extend_from_slice(b"\r\n");
        let status = send(plane.outbound, &ask).await.status();
        let came = (status, upstream.requests().len());
        assert_eq!(came, if denied { (403, 0) } else { (200, 1) }, "{told}");
    }
}
