//! Copies of requests for another version.

mod support;

use std::time::{Duration, Instant};

use http::StatusCode;
use segue_sidecar_core::snapshot::{ClusterIndex, HttpVersion, Mirror};
use support::{
    Caller, Chat, Plane, Upstream, empty, plane, read, streamed, until, upstream, whole,
};

/// All requests are copied, or so many in a million.
fn mirrored(http: HttpVersion, one: &Upstream, other: &Upstream, share_millionths: u32) -> Plane {
    let mirror = Mirror { cluster: ClusterIndex(1), share_millionths, keeps_host: true };
    let chat = Chat { http, mirror: Some((other.address, mirror)), ..Chat::http1(one.address) };
    plane(&chat)
}

fn copies(plane: &Plane) -> (u64, u64) {
    let all = plane.counters.all();
    let totals = all.iter().find(|it| &*it.name == "default/chat/v2").map(|it| it.totals());
    let totals = totals.unwrap_or_default();
    assert_eq!((totals.requests, totals.failures), (0, 0), "nobody asked for the other version");
    (totals.copies, totals.copies_failed)
}

#[tokio::test]
async fn another_version_gets_a_copy_with_its_body() {
    for http in [HttpVersion::Http1, HttpVersion::Http2] {
        let (one, other) = (upstream(http).await, upstream(http).await);
        let plane = mirrored(http, &one, &other, 1_000_000);
        for from in [HttpVersion::Http1, HttpVersion::Http2] {
            let before = copies(&plane).0;
            let mut caller = Caller::connect(from, plane.outbound).await;
            assert_eq!(caller.get("/").await.1, "hello");
            let answer = caller.send("POST", "/echo", whole("question")).await;
            assert_eq!(read(answer).await, "question");
            until("both copies are over", || copies(&plane).0 == before + 2).await;
        }
        assert_eq!((one.requests(), other.requests(), copies(&plane).1), (4, 4, 0));
        assert_eq!(other.bytes(), 2 * "question".len(), "{http:?}");
    }
}

#[tokio::test]
async fn what_happens_to_a_copy_is_nobodys_business() {
    let http = HttpVersion::Http1;
    let (one, other) = (upstream(http).await, upstream(http).await);
    let plane = mirrored(http, &one, &other, 1_000_000);
    let mut caller = Caller::connect(http, plane.outbound).await;
    other.answer_only(500);
    assert_eq!(caller.get("/").await.0, StatusCode::OK);
    until("the copy is over", || copies(&plane).0 == 1).await;
    other.task.abort();
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(caller.get("/").await.0, StatusCode::OK);
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
    until("the copies are over", || copies(&plane).0 == 6).await;
    let totals =
        plane.counters.all().iter().find(|it| &*it.name == "default/chat/v1").unwrap().totals();
    assert_eq!((totals.requests, totals.failures), (6, 0));
}

#[tokio::test]
async fn a_large_body_passes_without_a_copy() {
    let http = HttpVersion::Http1;
    let (one, other) = (upstream(http).await, upstream(http).await);
    let plane = mirrored(http, &one, &other, 1_000_000);
    let mut caller = Caller::connect(http, plane.outbound).await;
    let answer = caller.send("POST", "/count", streamed(256 * 1024)).await;
    assert_eq!(read(answer).await, (256 * 1024).to_string());
    until("there is no copy", || copies(&plane) == (1, 1)).await;
    assert_eq!(other.requests(), 0);
}

#[tokio::test]
async fn only_a_share_is_copied() {
    let http = HttpVersion::Http1;
    let (one, other) = (upstream(http).await, upstream(http).await);
    let plane = mirrored(http, &one, &other, 250_000);
    let mut caller = Caller::connect(http, plane.outbound).await;
    for _ in 0..400 {
        let answer = caller.send("GET", "/", empty()).await;
        read(answer).await;
    }
    // 100 ± 4.9 σ (σ = sqrt(400 · 0.25 · 0.75) ≈ 8.7).
    until("a quarter is copied", || (58..=142).contains(&other.requests())).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!((58..=142).contains(&other.requests()), "{}", other.requests());
}
