//! Requests pass in all combinations of protocols, whole and in order.

mod support;

use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use segue_sidecar_core::snapshot::HttpVersion;
use support::{BIG, Caller, Chat, empty, plane, plane_with_app, read, streamed, upstream, whole};

const BOTH: [HttpVersion; 2] = [HttpVersion::Http1, HttpVersion::Http2];

fn chat(http: HttpVersion, endpoint: std::net::SocketAddr) -> Chat {
    Chat { http, ..Chat::http1(endpoint) }
}

#[tokio::test]
async fn small_requests_pass_between_all_protocols() {
    for to in BOTH {
        let upstream = upstream(to).await;
        let plane = plane(&chat(to, upstream.address));
        for from in BOTH {
            let mut caller = Caller::connect(from, plane.outbound).await;
            for _ in 0..3 {
                assert_eq!(
                    caller.get("/").await,
                    (StatusCode::OK, "hello".into()),
                    "{from:?} {to:?}"
                );
            }
            let response = caller.send("POST", "/echo", whole("question")).await;
            assert_eq!(read(response).await, "question");
            assert_eq!(caller.get("/empty").await, (StatusCode::NO_CONTENT, String::new()));
            let head = caller.send("HEAD", "/", empty()).await;
            assert_eq!(head.headers()["content-length"], "5");
            assert_eq!(read(head).await, "");
            let head = caller.get("/head?q=1").await.1;
            assert!(head.contains("/head?q=1"), "{head}");
            assert_eq!(head.contains("HTTP/2"), to == HttpVersion::Http2);
            assert_eq!(head.contains("host: chat\n"), to == HttpVersion::Http1, "{head}");
            assert_eq!(head.contains("http://chat/"), to == HttpVersion::Http2, "{head}");
        }
        let totals = plane.counters.all()[0].totals();
        assert_eq!((totals.requests, totals.failures, totals.in_flight), (14, 0, 0));
        assert_eq!((totals.classes[1], totals.cancelled), (14, 0));
    }
}

#[tokio::test]
async fn large_bodies_stream_both_ways_between_all_protocols() {
    for to in BOTH {
        let upstream = upstream(to).await;
        let plane = plane(&chat(to, upstream.address));
        for from in BOTH {
            let mut caller = Caller::connect(from, plane.outbound).await;
            let response = caller.send("POST", "/count", streamed(BIG)).await;
            assert_eq!(read(response).await, BIG.to_string(), "up {from:?} {to:?}");
            let response = caller.send("POST", "/count", whole(vec![7; BIG])).await;
            assert_eq!(read(response).await, BIG.to_string(), "up, length known {from:?} {to:?}");
            let response = caller.send("GET", "/big", empty()).await;
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body.len(), BIG, "down {from:?} {to:?}");
            let response = caller.send("POST", "/echo", streamed(BIG)).await;
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert!(body.len() == BIG && body.iter().all(|&byte| byte == 7), "{from:?} {to:?}");
        }
    }
}

#[tokio::test]
async fn trailers_pass_over_http2() {
    let upstream = upstream(HttpVersion::Http2).await;
    let plane = plane(&Chat::http2(upstream.address));
    let mut caller = Caller::connect(HttpVersion::Http2, plane.outbound).await;
    let request = Request::post("http://chat/trailers").header("te", "trailers");
    let response = caller.request(request.body(whole("ping")).unwrap()).await;
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(collected.to_bytes(), "ping");
}

#[tokio::test]
async fn connections_are_kept_and_shared() {
    for (to, most) in [(HttpVersion::Http1, 2), (HttpVersion::Http2, 2)] {
        let upstream = upstream(to).await;
        let plane = plane(&chat(to, upstream.address));
        for _ in 0..4 {
            let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
            for path in ["/", "/head", "/big", "/empty", "/"] {
                caller.get(path).await;
            }
        }
        // One for each worker.
        assert!(upstream.connections() <= most, "{} to {to:?}", upstream.connections());
    }
}

#[tokio::test]
async fn an_explicit_proxy_takes_the_authority_of_the_target() {
    let upstream = upstream(HttpVersion::Http1).await;
    let plane = plane(&Chat::http1(upstream.address));
    let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    let request = Request::get("http://chat/head?a=b").header("host", "evil");
    let head = read(caller.request(request.body(empty()).unwrap()).await).await;
    assert!(
        head.starts_with("GET HTTP/1.1 /head?a=b\n") && head.contains("host: chat\n"),
        "{head}"
    );
    assert!(!head.contains("evil"));
}

#[tokio::test]
async fn inbound_requests_reach_the_application_whatever_their_host() {
    let app = upstream(HttpVersion::Http1).await;
    let plane = plane_with_app(&Chat::http1(app.address), Some(app.address));
    for from in BOTH {
        let mut caller = Caller::connect(from, plane.inbound.unwrap()).await;
        let request = match from {
            HttpVersion::Http1 => Request::get("/head").header("host", "anything"),
            HttpVersion::Http2 => Request::get("http://anything/head"),
        };
        let head = read(caller.request(request.body(empty()).unwrap()).await).await;
        assert!(head.contains("host: anything\n"), "{head}");
    }
}

#[tokio::test]
async fn grpc_reaches_the_application_over_http2() {
    let app = upstream(HttpVersion::Http2).await;
    let plane = plane_with_app(&Chat::http1(app.address), Some(app.address));
    let mut caller = Caller::connect(HttpVersion::Http2, plane.inbound.unwrap()).await;
    let request = Request::post("http://chat/trailers")
        .header("te", "trailers")
        .header("content-type", "application/grpc");
    let response = caller.request(request.body(whole("ping")).unwrap()).await;
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
}
