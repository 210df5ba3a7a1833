//! Connections do not live for ever: those of callers by their requests, those to upstreams by age.
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

mod support;

use std::time::Duration;

use segue_sidecar::http::Door;
use segue_sidecar_core::snapshot::{HttpVersion, PoolLimits};
use support::{Caller, Chat, plane, plane_with_door, raw, until, upstream};

fn short_lived(chat: Chat) -> Chat {
    let limits = PoolLimits { max_age: Duration::from_millis(1), ..PoolLimits::default() };
    Chat { limits, ..chat }
}

#[tokio::test]
async fn an_aged_connection_is_not_used_again() {
    let upstream = upstream(HttpVersion::Http1).await;
    let plane = plane(&short_lived(Chat::http1(upstream.address)));
    let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    for round in 1..=5 {
        // An answer that takes as long as a connection lives.
        let (status, _) = caller.get("/slow").await;
        assert_eq!((status.as_u16(), upstream.connections()), (200, round));
    }
}

#[tokio::test]
async fn an_aged_connection_that_is_shared_takes_no_new_requests() {
    let upstream = upstream(HttpVersion::Http2).await;
    let plane = plane(&short_lived(Chat::http2(upstream.address)));
    let mut caller = Caller::connect(HttpVersion::Http2, plane.outbound).await;
    assert_eq!(caller.get("/").await.0.as_u16(), 200);
    let totals = || plane.counters.all()[0].totals();
    until("the connection is let go", || totals().connections == 0).await;
    assert_eq!(caller.get("/").await.0.as_u16(), 200);
    assert_eq!((upstream.connections(), totals().failures), (2, 0));
}

#[tokio::test]
async fn a_strangers_connection_ends_in_order_after_its_last_request() {
    let app = upstream(HttpVersion::Http1).await;
    let door = Door { max_requests: 3, ..Door::default() };
    let plane = plane_with_door(&Chat::http1(app.address), Some(app.address), door);
    let ask = "GET / HTTP/1.1\r\nHost: chat\r\n\r\n";
    let answers = raw(plane.inbound.unwrap(), &ask.repeat(4)).await;
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 3, "{answers}");
    assert_eq!(answers.to_ascii_lowercase().matches("connection: close").count(), 1, "{answers}");

    // Over HTTP/2 what has begun is answered, and nothing of it is lost.
    let mut caller = Caller::connect(HttpVersion::Http2, plane.inbound.unwrap()).await;
    for _ in 0..3 {
        assert_eq!(caller.get("/").await.0.as_u16(), 200);
    }
    // The application beside the sidecar keeps its connection.
    let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    for _ in 0..10 {
        assert_eq!(caller.get("/").await.0.as_u16(), 200);
    }
}
