//! A request that is slow goes out once more, and whoever answers first has answered.
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::StatusCode;
use segue_sidecar_core::retry_budget::RetryBudget;
use segue_sidecar_core::snapshot::{HttpVersion, Retry, Traffic};
use support::{Caller, Chat, Plane, plane, raw, until, upstream};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

const AFTER: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_millis(500);

/// An instance that takes requests and never answers.
struct Silent {
    address: SocketAddr,
    /// What came on each connection that is over.
    over: Arc<Mutex<Vec<String>>>,
}

impl Silent {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let over = Arc::<Mutex<Vec<String>>>::default();
        let all = Arc::clone(&over);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let all = Arc::clone(&all);
                tokio::spawn(async move {
                    let mut came = Vec::new();
                    // A reset is an end as well.
                    let _ = stream.read_to_end(&mut came).await;
                    all.lock().unwrap().push(String::from_utf8_lossy(&came).into_owned());
                });
            }
        });
        Self { address, over }
    }

    fn over(&self) -> usize {
        self.over.lock().unwrap().len()
    }
}

fn hedged(endpoints: Vec<SocketAddr>, traffic: Traffic) -> Plane {
    let retry = Retry {
        attempts: 1,
        statuses: vec![StatusCode::SERVICE_UNAVAILABLE],
        grpc_statuses: 0,
        reset: false,
        hedges: true,
        backoff: Duration::ZERO,
        max_backoff: Duration::ZERO,
    };
    let chat = Chat::http1(endpoints[0]);
    plane(&Chat {
        retry: Some(retry),
        try_timeout: Some(AFTER),
        timeout: Some(TIMEOUT),
        endpoints,
        traffic,
        ..chat
    })
}

fn budget(percent: u32, min_per_second: u32) -> Traffic {
    Traffic { retry_budget: RetryBudget { percent, min_per_second }, ..Traffic::default() }
}

#[tokio::test]
async fn nobody_waits_for_the_slow_one_of_two() {
    let (slow, fast) = (Silent::start().await, upstream(HttpVersion::Http1).await);
    let plane = hedged(vec![slow.address, fast.address], budget(100, 100));
    let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(caller.get("/").await.0, StatusCode::OK);
        assert!(begun.elapsed() < TIMEOUT, "{:?}", begun.elapsed());
    }
    let totals = plane.counters.all()[0].totals();
    // A hedge takes a turn of its own, so that most requests begin at the slow one.
    let hedges = totals.hedges;
    assert!((10..=20).contains(&hedges), "{hedges}");
    assert_eq!((totals.hedges_won, totals.retries), (hedges, hedges));
    assert_eq!((totals.requests, totals.failures), (20, 0));
    // Whoever lost is told.
    until("the slow attempts are given up", || slow.over() as u64 == hedges).await;
}

#[tokio::test]
async fn a_failed_answer_waits_for_the_other_attempt() {
    let (bad, good) = (upstream(HttpVersion::Http1).await, upstream(HttpVersion::Http1).await);
    bad.answer_only(503);
    let plane = hedged(vec![bad.address, good.address], budget(100, 100));
    let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    for _ in 0..10 {
        assert_eq!(caller.get("/").await.0, StatusCode::OK);
    }
    let totals = plane.counters.all()[0].totals();
    assert!((5..=10).contains(&totals.retries), "{}", totals.retries);
    assert_eq!((totals.hedges, totals.failures), (0, 0));
}

#[tokio::test]
async fn what_must_not_happen_twice_does_not() {
    let (slow, fast) = (Silent::start().await, upstream(HttpVersion::Http1).await);
    let plane = hedged(vec![slow.address, fast.address], budget(100, 100));
    let ask = "POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    let (one, other) = tokio::join!(raw(plane.outbound, ask), raw(plane.outbound, ask));
    let ended = |status: &str| [&one, &other].iter().filter(|it| it.contains(status)).count();
    assert_eq!((ended("HTTP/1.1 504 "), ended("HTTP/1.1 200 ")), (1, 1), "{one}\n{other}");
    assert_eq!(plane.counters.all()[0].totals().hedges, 0);
}

#[tokio::test]
async fn without_a_budget_nobody_asks_twice() {
    let (slow, fast) = (Silent::start().await, upstream(HttpVersion::Http1).await);
    let plane = hedged(vec![slow.address, fast.address], budget(0, 0));
    let ask = "GET / HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n";
    let (one, other) = tokio::join!(raw(plane.outbound, ask), raw(plane.outbound, ask));
    let ended = |status: &str| [&one, &other].iter().filter(|it| it.contains(status)).count();
    assert_eq!((ended("HTTP/1.1 504 "), ended("HTTP/1.1 200 ")), (1, 1), "{one}\n{other}");
    let totals = plane.counters.all()[0].totals();
    assert_eq!((totals.hedges, totals.retries_refused), (0, 1));
}
