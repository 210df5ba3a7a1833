//! Configuration changes under load: no request fails, and none meets what no snapshot names.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use segue_sidecar_core::snapshot::HttpVersion;
use support::{Caller, Chat, plane, read, upstream, whole};

const CHANGES: u64 = 300;
const CALLERS: usize = 8;

#[tokio::test]
async fn endpoints_come_and_go_under_load_without_a_failed_request() {
    for to in [HttpVersion::Http1, HttpVersion::Http2] {
        let mut upstreams = Vec::new();
        for _ in 0..3 {
            upstreams.push(upstream(to).await);
        }
        let chat = |pick: u64| Chat {
            http: to,
            endpoints: match pick % 4 {
                3 => upstreams.iter().map(|it| it.address).collect(),
                one => vec![upstreams[one as usize].address],
            },
            ..Chat::http1(upstreams[0].address)
        };
        let plane = plane(&chat(0));
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let mut callers = Vec::new();
        for i in 0..CALLERS {
            let from = if i % 2 == 0 { HttpVersion::Http1 } else { HttpVersion::Http2 };
            let mut caller = Caller::connect(from, plane.outbound).await;
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            callers.push(tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(caller.get("/").await, (StatusCode::OK, "hello".into()));
                    let response = caller.send("POST", "/echo", whole("question")).await;
                    assert_eq!(response.status(), StatusCode::OK);
                    assert_eq!(read(response).await, "question");
                    answered.fetch_add(2, Ordering::SeqCst);
                }
            }));
        }
        for generation in 2..CHANGES {
            plane.snapshots.publish(chat(generation).snapshot(generation));
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        stop.store(true, Ordering::SeqCst);
        for caller in callers {
            caller.await.unwrap();
        }
        let totals = plane.counters.all()[0].totals();
        assert_eq!((totals.failures, totals.cancelled, totals.in_flight), (0, 0, 0));
        assert_eq!(totals.requests, answered.load(Ordering::SeqCst) as u64);
        assert!(totals.requests > CHANGES, "{}", totals.requests);
    }
}
