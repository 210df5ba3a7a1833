//! 2b rows 16 and 17: what HTTP/2 can say that HTTP/1.1 cannot, and the other way round.

use crate::capture::{Capture, Plane, Request};
use crate::raw_http2::{END_STREAM, RawHttp2, fields, head};

type Field = (&'static [u8], &'static [u8]);

const METHOD: Field = (b":method", b"GET");
const SCHEME: Field = (b":scheme", b"http");
const AUTHORITY: Field = (b":authority", b"chat");
const PATH: Field = (b":path", b"/a");

/// The fields of a request, and its head as the upstream must see it; `None`: it must not see any.
struct Row(&'static str, Vec<Field>, Option<&'static str>);

fn with(name: &'static str, more: &[Field], seen: Option<&'static str>) -> Row {
    let mut all = vec![METHOD, SCHEME, AUTHORITY, PATH];
    all.extend_from_slice(more);
    Row(name, all, seen)
}

const PLAIN: Option<&str> = Some("GET /a HTTP/1.1\nhost: chat");

fn rows() -> Vec<Row> {
    vec![
        with("16 authority alone", &[], PLAIN),
        with("16 the same Host", &[(b"host", b"chat")], PLAIN),
        with("16 the same Host in another spelling", &[(b"host", b"CHAT.:80")], PLAIN),
        with("16 another Host", &[(b"host", b"evil")], None),
        with("16 two Hosts", &[(b"host", b"chat"), (b"host", b"chat")], None),
        Row("16 Host alone", vec![METHOD, SCHEME, PATH, (b"host", b"chat")], PLAIN),
        Row("16 neither", vec![METHOD, SCHEME, PATH], None),
        Row("16 a user", vec![METHOD, SCHEME, (b":authority", b"evil@chat"), PATH], None),
        Row("16 an empty authority", vec![METHOD, SCHEME, (b":authority", b""), PATH], None),
        Row("16 upper case", vec![METHOD, SCHEME, (b":authority", b"Chat.:80"), PATH], PLAIN),
        with("17 Transfer-Encoding", &[(b"transfer-encoding", b"chunked")], None),
        with("17 Connection", &[(b"connection", b"close")], None),
        with("17 Upgrade", &[(b"upgrade", b"h2c")], None),
        with("17 Proxy-Connection", &[(b"proxy-connection", b"close")], None),
        with("17 Keep-Alive", &[(b"keep-alive", b"timeout=1")], None),
        with("17 TE gzip", &[(b"te", b"gzip")], None),
        with("17 TE trailers", &[(b"te", b"trailers")], PLAIN),
        with("17 a length without a body", &[(b"content-length", b"5")], None),
        with("17 CR and LF in a value", &[(b"x", b"a\r\ny: b")], None),
        with("17 LF in a value", &[(b"x", b"a\nb")], None),
        with("17 NUL in a value", &[(b"x", b"a\0b")], None),
        with("17 upper case in a name", &[(b"X", b"a")], None),
        with("17 a colon in a name", &[(b"a:b", b"c")], None),
        with("17 a blank in a name", &[(b"a b", b"c")], None),
        with("17 CR and LF in a name", &[(b"a\r\nb", b"c")], None),
        with("17 an empty name", &[(b"", b"c")], None),
        with("17 an unknown pseudo header", &[(b":evil", b"1")], None),
        with("17 two paths", &[(b":path", b"/admin")], None),
        with("17 two methods", &[(b":method", b"POST")], None),
        with("17 two authorities", &[(b":authority", b"evil")], None),
        with("17 a status", &[(b":status", b"200")], None),
        Row(
            "17 a pseudo header behind others",
            vec![METHOD, SCHEME, AUTHORITY, (b"x", b"1"), PATH],
            None,
        ),
        Row("17 no method", vec![SCHEME, AUTHORITY, PATH], None),
        Row("17 no path", vec![METHOD, SCHEME, AUTHORITY], None),
        Row(
            "17 a blank in the method",
            vec![(b":method", b"GET /x HTTP/1.1"), SCHEME, AUTHORITY, PATH],
            None,
        ),
        Row(
            "17 CR and LF in the path",
            vec![METHOD, SCHEME, AUTHORITY, (b":path", b"/a HTTP/1.1\r\nx: y")],
            None,
        ),
        Row("17 a blank in the path", vec![METHOD, SCHEME, AUTHORITY, (b":path", b"/a b")], None),
        Row(
            "17 CR and LF in the authority",
            vec![METHOD, SCHEME, (b":authority", b"chat\r\nx: y"), PATH],
            None,
        ),
        Row("25 CONNECT", vec![(b":method", b"CONNECT"), AUTHORITY], None),
        Row("25 TRACE", vec![(b":method", b"TRACE"), SCHEME, AUTHORITY, PATH], None),
        with(
            "17 blanks around a value",
            &[(b"x", b" a\t")],
            Some("GET /a HTTP/1.1\nhost: chat\nx: a"),
        ),
        with(
            "17 cookies in pieces",
            &[(b"cookie", b"a=1"), (b"cookie", b"b=2")],
            Some("GET /a HTTP/1.1\nhost: chat\ncookie: a=1; b=2"),
        ),
        with("24 an underscore", &[(b"x_segue_session", b"v2")], None),
    ]
}

#[tokio::test]
async fn each_request_is_refused_or_becomes_one_of_http1() {
    let mut wrong = Vec::new();
    for Row(name, given, seen) in rows() {
        let upstream = Capture::start().await;
        let plane = Plane::start(upstream.address);
        let mut caller = RawHttp2::connect(plane.outbound).await;
        caller.send(&head(1, END_STREAM, &fields(&given))).await;
        let outcome = caller.outcome(1).await;
        let requests: Vec<Request> =
            upstream.requests().into_iter().map(Request::in_order).collect();
        let good = match seen {
            None => outcome.is_refusal() && requests.is_empty(),
            Some(text) => {
                let head = text.lines().map(str::to_owned).collect();
                requests == [Request { head, body: Vec::new() }.in_order()]
            }
        };
        let rest = upstream.carried().iter().any(|it| !it.rest.is_empty());
        if !good || rest {
            wrong.push(format!("{name}: {outcome:?}, sent on {requests:?}"));
        }
        // The connection, or at least the listener, still serves.
        let mut second = RawHttp2::connect(plane.outbound).await;
        second.get(1, "/second").await;
        let outcome = second.outcome(1).await;
        if outcome != crate::raw_http2::Outcome::Status(200) {
            wrong.push(format!("{name}: a second caller got {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
