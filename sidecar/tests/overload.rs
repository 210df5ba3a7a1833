//! What callers meet when memory is short.
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

mod support;

use segue_sidecar_core::overload::Step;
use segue_sidecar_core::snapshot::HttpVersion;
use support::{Caller, Chat, plane, raw, until, upstream};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

#[tokio::test]
async fn connections_end_first_and_then_requests_are_refused() {
    let upstream = upstream(HttpVersion::Http1).await;
    let plane = plane(&Chat::http1(upstream.address));
    let ask = "GET / HTTP/1.1\r\nHost: chat\r\n\r\n";
    let mut kept = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    assert_eq!(kept.get("/").await.0.as_u16(), 200);

    plane.overload.set(Step::NoKeepAlive);
    // It ends after its answer, though it would have had another request.
    let answers = raw(plane.outbound, &ask.repeat(2)).await.to_ascii_lowercase();
    assert_eq!(answers.matches("http/1.1 200 ").count(), 1, "{answers}");
    assert!(answers.contains("connection: close"), "{answers}");

    plane.overload.set(Step::Refuse);
    let (status, body) = kept.get("/").await;
    assert_eq!(status.as_u16(), 503);
    assert!(body.contains("overloaded"), "{body}");
    let mut refused = TcpStream::connect(plane.outbound).await.unwrap();
    assert_eq!(refused.read(&mut [0]).await.unwrap_or(0), 0, "a new connection is closed");
    until("it is counted", || plane.counters.refusals().contains_key("overloaded")).await;

    plane.overload.set(Step::None);
    let mut again = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    for _ in 0..3 {
        assert_eq!(again.get("/").await.0.as_u16(), 200);
    }
}
