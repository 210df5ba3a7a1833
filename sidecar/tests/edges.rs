//! What goes wrong, and what must not: refusals, timeouts, closed connections, the drain.

mod support;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use segue_sidecar_core::snapshot::{HttpVersion, PoolLimits, Retry};
use support::{Caller, Chat, empty, plane, raw, read, until, upstream, whole};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// An address where nobody listens.
#[allow(clippy::unwrap_used)] // A helper of tests, which the lint does not know.
async fn nobody() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn an_unknown_host_gets_problem_details() {
    let plane = plane(&Chat::http1(nobody().await));
    let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    let request = Request::get("/").header("host", "nowhere").body(empty()).unwrap();
    let response = caller.request(request).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let body = read(response).await;
    let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&problem["reason"], &problem["status"]), (&"no_route".into(), &404.into()));
}

#[tokio::test]
async fn a_grpc_caller_gets_a_grpc_status() {
    let plane = plane(&Chat::http1(nobody().await));
    let mut caller = Caller::connect(HttpVersion::Http2, plane.outbound).await;
    let request = Request::post("http://nowhere/a.B/C").header("content-type", "application/grpc");
    let response = caller.request(request.body(whole("x")).unwrap()).await;
    assert_eq!(
        (response.status(), &response.headers()["grpc-status"]),
        (StatusCode::OK, &"12".parse().unwrap())
    );
}

#[tokio::test]
async fn refused_connections_are_503_and_another_endpoint_serves() {
    let dead = nobody().await;
    let mut chat = Chat::http1(dead);
    let plane = plane(&chat);
    let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    let (status, body) = caller.get("/").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains(r#""reason":"connect_failed""#) && body.contains(r#""retrySafe":true"#));
    let alive = upstream(HttpVersion::Http1).await;
    chat.endpoints.push(alive.address);
    plane.snapshots.publish(chat.snapshot(2));
    for _ in 0..6 {
        assert_eq!(caller.get("/").await.0, StatusCode::OK);
        let response = caller.send("POST", "/echo", whole("kept")).await;
        assert_eq!(read(response).await, "kept");
    }
}

#[tokio::test]
async fn a_late_answer_is_504() {
    for http in [HttpVersion::Http1, HttpVersion::Http2] {
        let upstream = upstream(http).await;
        let timeout = Some(Duration::from_millis(100));
        let plane = plane(&Chat { http, timeout, ..Chat::http1(upstream.address) });
        let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
        let begun = Instant::now();
        assert_eq!(caller.get("/never").await.0, StatusCode::GATEWAY_TIMEOUT);
        assert!(begun.elapsed() < Duration::from_secs(2));
        assert_eq!(caller.get("/").await.0, StatusCode::OK);
        let totals = plane.counters.all()[0].totals();
        assert_eq!((totals.requests, totals.failures, totals.in_flight), (2, 1, 0));
    }
}

#[tokio::test]
async fn malformed_requests_are_400_and_reach_nobody() {
    let upstream = upstream(HttpVersion::Http1).await;
    let plane = plane(&Chat::http1(upstream.address));
    for bad in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: chat\r\nHost: chat\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: chat chat\r\n\r\n",
        "GET admin HTTP/1.1\r\nHost: chat\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: chat\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\nHost: chat\n\n",
        "GET / HTTP/1.1\r\nHost: chat\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: chat\r\nX : a\r\n\r\n",
        "GET /#a HTTP/1.1\r\nHost: chat\r\n\r\n",
        "\x16\x03\x01\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: chat\r\nConnection: host\r\n\r\n",
    ] {
        let answer = raw(plane.outbound, bad).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{bad}\n{answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{bad}\n{answer}");
    }
    let connect = raw(plane.outbound, "CONNECT chat:80 HTTP/1.1\r\nHost: chat:80\r\n\r\n").await;
    assert!(connect.starts_with("HTTP/1.1 405"), "{connect}");
    assert_eq!(upstream.requests.load(Ordering::SeqCst), 0);
}

/// A caller that is not told that its connection ends sends its next request into the void.
#[tokio::test]
async fn a_body_that_nobody_reads_costs_no_request_behind_it() {
    let plane = plane(&Chat::http1(nobody().await));
    for (host, status) in [("nowhere", 404), ("chat", 503)] {
        let ask = format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n\
             1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
        );
        let answer = raw(plane.outbound, &ask.repeat(2)).await;
        assert_eq!(answer.matches(&format!("HTTP/1.1 {status}")).count(), 2, "{answer}");
    }
}

#[tokio::test]
async fn a_malformed_body_is_the_callers_fault() {
    let upstream = upstream(HttpVersion::Http1).await;
    let plane = plane(&Chat::http1(upstream.address));
    let bad = "POST /count HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let answer = raw(plane.outbound, bad).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn headers_of_one_connection_and_of_the_mesh_do_not_pass() {
    let upstream = upstream(HttpVersion::Http1).await;
    let plane = plane(&Chat::http1(upstream.address));
    let answer = raw(
        plane.outbound,
        "GET /head HTTP/1.1\r\nHost: chat\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\
         Keep-Alive: 9\r\nUpgrade: h2c\r\nTE: gzip\r\nX-Segue-Version: v2\r\nX-User: 7\r\n\r\n",
    )
    .await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "GET HTTP/1.1 /head\nhost: chat\nx-user: 7\n");
    assert!(!head.contains("keep-alive"), "{head}");
}

#[tokio::test]
async fn http_1_0_callers_are_answered() {
    let upstream = upstream(HttpVersion::Http1).await;
    let plane = plane(&Chat::http1(upstream.address));
    let answer = raw(plane.outbound, "GET /head HTTP/1.0\r\nHost: chat\r\n\r\n").await;
    assert!(answer.contains("GET HTTP/1.1 /head"), "{answer}");
    let answer = raw(plane.outbound, "POST /echo HTTP/1.0\r\nHost: chat\r\n\r\n").await;
    assert!(answer.contains(" 200 ") && !answer.contains("chunked"), "{answer}");
}

#[tokio::test]
async fn a_caller_that_waits_for_100_continue_gets_it() {
    let upstream = upstream(HttpVersion::Http1).await;
    let plane = plane(&Chat::http1(upstream.address));
    let head = "POST /echo HTTP/1.1\r\nHost: chat\r\nContent-Length: 4\r\nExpect: ";
    let answer = raw(plane.outbound, &format!("{head}100-continue\r\n\r\nbody")).await;
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("body"), "{answer}");
    let answer = raw(plane.outbound, &format!("{head}200-ok\r\n\r\nbody")).await;
    assert!(answer.starts_with("HTTP/1.1 417"), "{answer}");
}

#[tokio::test]
async fn connections_that_the_upstream_closes_fail_no_request() {
    let upstream = upstream(HttpVersion::Http1).await;
    let plane = plane(&Chat::http1(upstream.address));
    let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    for _ in 0..20 {
        assert_eq!(caller.get("/close").await, (StatusCode::OK, "bye".into()));
        assert_eq!(caller.get("/").await, (StatusCode::OK, "hello".into()));
    }
}

/// An upstream that answers one request on each connection and closes it without a word at the
/// second: the race of every idle timeout.
#[tokio::test]
async fn a_kept_connection_closed_under_a_request_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                let _ = stream.read(&mut buffer).await;
            });
        }
    });
    let plane = plane(&Chat::http1(address));
    let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    for _ in 0..10 {
        assert_eq!(caller.get("/").await, (StatusCode::OK, "ok".into()));
    }
    assert_eq!(plane.counters.all()[0].totals().retries, 9);
}

#[tokio::test]
async fn a_restarted_upstream_fails_no_request() {
    for http in [HttpVersion::Http1, HttpVersion::Http2] {
        let (first, second) = (upstream(http).await, upstream(http).await);
        let mut chat = Chat { http, ..Chat::http1(first.address) };
        chat.endpoints.push(second.address);
        let plane = plane(&chat);
        let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
        for round in 0..30 {
            if round == 10 {
                first.task.abort();
            }
            assert_eq!(caller.get("/").await.0, StatusCode::OK, "{http:?} round {round}");
        }
    }
}

#[tokio::test]
async fn a_routes_retries_go_to_the_answer_that_it_wants() {
    let upstream = upstream(HttpVersion::Http1).await;
    let retry = Retry {
        attempts: 2,
        statuses: vec![StatusCode::SERVICE_UNAVAILABLE],
        grpc_statuses: 0,
        reset: false,
        hedges: false,
        backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(1),
    };
    let plane = plane(&Chat { retry: Some(retry), ..Chat::http1(upstream.address) });
    let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    assert_eq!(caller.get("/unavailable").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(upstream.requests.load(Ordering::SeqCst), 3);
    assert_eq!(plane.counters.all()[0].totals().retries, 2);
}

#[tokio::test]
async fn requests_beyond_the_cap_are_503() {
    let upstream = upstream(HttpVersion::Http1).await;
    let limits = PoolLimits { max_requests: 1, max_pending_requests: 0, ..PoolLimits::default() };
    let plane = plane(&Chat { limits, ..Chat::http1(upstream.address) });
    let mut first = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    let mut second = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    let slow = tokio::spawn(async move { first.get("/slow").await.0 });
    until("the slow request runs", || upstream.requests.load(Ordering::SeqCst) == 1).await;
    let (status, body) = second.get("/").await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && body.contains("overflow"), "{body}");
    assert_eq!(slow.await.unwrap(), StatusCode::OK);
    assert_eq!(second.get("/").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_caller_that_gives_up_frees_the_upstream() {
    for from in [HttpVersion::Http1, HttpVersion::Http2] {
        let upstream = upstream(HttpVersion::Http1).await;
        let plane = plane(&Chat::http1(upstream.address));
        let mut caller = Caller::connect(from, plane.outbound).await;
        let asking = tokio::spawn(async move { caller.get("/never").await });
        let totals = || plane.counters.all().first().map(|it| it.totals()).unwrap_or_default();
        until("the request runs", || totals().in_flight == 1).await;
        asking.abort();
        until("the request is given up", || totals().in_flight == 0).await;
        assert_eq!((totals().cancelled, totals().failures), (1, 0));
        until("the connection is closed", || totals().connections == 0).await;
    }
}

#[tokio::test]
async fn a_changed_snapshot_keeps_connections_that_it_still_names() {
    let (old, new) = (upstream(HttpVersion::Http1).await, upstream(HttpVersion::Http1).await);
    let mut chat = Chat::http1(old.address);
    let plane = plane(&chat);
    let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    for generation in 2..6 {
        assert_eq!(caller.get("/").await.0, StatusCode::OK);
        plane.snapshots.publish(chat.snapshot(generation));
    }
    assert_eq!(caller.get("/").await.0, StatusCode::OK);
    assert_eq!(old.connections(), 1);
    chat.endpoints = vec![new.address];
    plane.snapshots.publish(chat.snapshot(6));
    assert_eq!(caller.get("/").await.0, StatusCode::OK);
    let totals = || plane.counters.all()[0].totals();
    until("the old connection is closed", || totals().connections == 1).await;
    assert_eq!((new.connections(), totals().connects), (1, 2));
}

#[tokio::test]
async fn the_drain_lets_running_requests_end() {
    let upstream = upstream(HttpVersion::Http1).await;
    let plane = plane(&Chat::http1(upstream.address));
    let mut callers = Vec::new();
    for http in [HttpVersion::Http1, HttpVersion::Http2] {
        let mut caller = Caller::connect(http, plane.outbound).await;
        callers.push(tokio::spawn(async move { caller.get("/slow").await }));
    }
    let mut idle = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    assert_eq!(idle.get("/").await.0, StatusCode::OK);
    until("both requests run", || upstream.requests.load(Ordering::SeqCst) == 3).await;
    plane.drain.cancel();
    // A request that was on its way is answered, and told to be the last.
    let response = idle.send("GET", "/", empty()).await;
    assert_eq!(
        (response.status(), &response.headers()["connection"]),
        (StatusCode::OK, &"close".parse().unwrap())
    );
    for caller in callers {
        assert_eq!(caller.await.unwrap(), (StatusCode::OK, "slow".into()));
    }
    let begun = Instant::now();
    plane.workers.drained().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(tokio::net::TcpStream::connect(plane.outbound).await.is_err());
}

#[tokio::test]
async fn an_answer_that_stalls_is_cut_and_grpc_callers_are_told() {
    let upstream = upstream(HttpVersion::Http2).await;
    for (timeout, idle_timeout) in [
        (Some(Duration::from_millis(150)), None),
        (Some(Duration::from_secs(10)), Some(Duration::from_millis(150))),
    ] {
        let plane = plane(&Chat { timeout, idle_timeout, ..Chat::http2(upstream.address) });
        let mut caller = Caller::connect(HttpVersion::Http2, plane.outbound).await;
        let begun = Instant::now();
        let request =
            Request::post("http://chat/stalls").header("content-type", "application/grpc");
        let response = caller.request(request.body(empty()).unwrap()).await;
        let whole = response.into_body().collect().await.unwrap();
        assert_eq!(whole.trailers().unwrap()["grpc-status"], "4");
        assert_eq!(whole.to_bytes(), "begun");
        let response =
            caller.request(Request::get("http://chat/stalls").body(empty()).unwrap()).await;
        assert!(response.into_body().collect().await.is_err());
        assert!(begun.elapsed() < Duration::from_secs(5));
        let totals = plane.counters.all()[0].totals();
        assert_eq!((totals.failures, totals.in_flight), (2, 0));
    }
}

#[tokio::test]
async fn the_time_of_a_grpc_caller_counts_and_what_is_left_is_told() {
    let upstream = upstream(HttpVersion::Http2).await;
    let plane = plane(&Chat::http2(upstream.address));
    let mut caller = Caller::connect(HttpVersion::Http2, plane.outbound).await;
    let ask = |path: &str, timeout: Option<&str>| {
        let request = Request::post(format!("http://chat{path}"));
        let request = request.header("content-type", "application/grpc");
        let request = timeout.into_iter().fold(request, |it, time| it.header("grpc-timeout", time));
        request.body(empty()).unwrap()
    };
    let begun = Instant::now();
    let response = caller.request(ask("/never", Some("200m"))).await;
    assert_eq!(response.headers()["grpc-status"], "4");
    assert!(begun.elapsed() < Duration::from_secs(3), "the route allows ten seconds");
    // The smaller of both, and a malformed one is none.
    for (timeout, most) in [(Some("5S"), 5.0), (Some("1H"), 10.0), (None, 10.0), (Some("x"), 10.0)]
    {
        let head = read(caller.request(ask("/head", timeout)).await).await;
        let told = head.lines().find_map(|line| line.strip_prefix("grpc-timeout: ")).unwrap();
        let left = segue_sidecar_core::grpc_timeout::parse(told.as_bytes()).unwrap().as_secs_f64();
        assert!((most - 3.0..most).contains(&left), "{timeout:?}: {left}");
    }
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_repeated_where_that_is_safe() {
    let (slow, fast) = (upstream(HttpVersion::Http1).await, upstream(HttpVersion::Http1).await);
    let retry = Retry {
        attempts: 1,
        statuses: Vec::new(),
        grpc_statuses: 0,
        reset: false,
        hedges: false,
        backoff: Duration::ZERO,
        max_backoff: Duration::ZERO,
    };
    let mut chat = Chat {
        retry: Some(retry),
        try_timeout: Some(Duration::from_millis(150)),
        ..Chat::http1(slow.address)
    };
    chat.endpoints.push(fast.address);
    let plane = plane(&chat);
    let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    let begun = Instant::now();
    let (status, body) = caller.get("/never").await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{body}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let requests = || slow.requests() + fast.requests();
    assert_eq!((slow.requests(), fast.requests()), (1, 1), "the second one went elsewhere");
    let response = caller.send("POST", "/never", empty()).await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(requests(), 3, "a POST is not repeated");
}
