//! Faults made on purpose.
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

mod support;

use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use segue_sidecar_core::snapshot::{HttpVersion, InjectedFault};
use support::{Caller, Chat, empty, plane, upstream};

const ALL: u32 = 1_000_000;

async fn chat(fault: InjectedFault) -> (support::Upstream, support::Plane) {
    let upstream = upstream(HttpVersion::Http1).await;
    let plane = plane(&Chat { fault: Some(fault), ..Chat::http1(upstream.address) });
    (upstream, plane)
}

#[tokio::test]
async fn a_share_of_the_requests_is_refused_without_being_sent() {
    let abort = Some((StatusCode::IM_A_TEAPOT, ALL / 2));
    let (upstream, plane) = chat(InjectedFault { delay: None, abort, max_active: 9 }).await;
    let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    let mut refused = 0;
    for _ in 0..400 {
        let (status, body) = caller.get("/").await;
        refused += u32::from(status == StatusCode::IM_A_TEAPOT && body.contains("fault_abort"));
    }
    // Binomial with p = 1/2: the standard deviation is 10, and 70 off happens once in 10^11 runs.
    assert!((130..=270).contains(&refused), "{refused}");
    assert_eq!(upstream.requests() as u32, 400 - refused);
    assert_eq!(plane.counters.refusals()["fault_abort"], u64::from(refused));
}

#[tokio::test]
async fn callers_of_grpc_are_told_where_they_look() {
    let abort = Some((StatusCode::SERVICE_UNAVAILABLE, ALL));
    let (_, plane) = chat(InjectedFault { delay: None, abort, max_active: 9 }).await;
    let mut caller = Caller::connect(HttpVersion::Http2, plane.outbound).await;
    let request = Request::post("http://chat/a.B/C").header("content-type", "application/grpc");
    let answer = caller.request(request.body(empty()).unwrap()).await;
    assert_eq!(
        (answer.status(), &answer.headers()["grpc-status"]),
        (StatusCode::OK, &"14".parse().unwrap())
    );
}

#[tokio::test]
async fn requests_are_held_and_then_sent_on() {
    let delay = Some((Duration::from_millis(300), ALL));
    let (upstream, plane) = chat(InjectedFault { delay, abort: None, max_active: 1 }).await;
    let begun = Instant::now();
    let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    assert_eq!(caller.get("/").await.0, StatusCode::OK);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!((upstream.requests(), plane.counters.refusals()["fault_delay"]), (1, 1));
}
