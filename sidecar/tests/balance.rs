//! Which endpoint of a version gets a request: balancing, ejection, probes, and who waits or repeats.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{Request, StatusCode};
use segue_sidecar_core::health::Thresholds;
use segue_sidecar_core::retry_budget::RetryBudget;
use segue_sidecar_core::snapshot::{
    Algorithm, ClusterTable, Endpoint, Hashing, HttpVersion, Outlier, PoolLimits, Probe, ProbeKind,
    Retry, SplitKey, TableKind, Traffic,
};
use support::{Caller, Chat, Plane, Upstream, empty, plane, read, until, upstream, whole};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic_health::ServingStatus;

#[allow(clippy::unwrap_used)] // A helper of tests, which the lint does not know.
async fn upstreams(count: usize) -> Vec<Upstream> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(upstream(HttpVersion::Http1).await);
    }
    all
}

fn chat(upstreams: &[Upstream], traffic: Traffic) -> Chat {
    Chat {
        endpoints: upstreams.iter().map(|upstream| upstream.address).collect(),
        traffic,
        ..Chat::http1(upstreams[0].address)
    }
}

/// Callers on several connections, so that both workers have some.
async fn callers(plane: &Plane, count: usize) -> Vec<Caller> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(Caller::connect(HttpVersion::Http1, plane.outbound).await);
    }
    all
}

#[tokio::test]
async fn the_less_busy_endpoint_gets_the_request() {
    let both = upstreams(2).await;
    let algorithm = Algorithm::LeastRequest { choices: 2 };
    let plane = plane(&chat(&both, Traffic { algorithm, ..Traffic::default() }));
    // Each worker counts what it has sent itself: of many connections each has some.
    let mut stuck = Vec::new();
    for mut caller in callers(&plane, 12).await {
        stuck.push(tokio::spawn(async move { caller.get("/never").await }));
    }
    let requests = || both.iter().map(Upstream::requests).collect::<Vec<_>>();
    until("all are stuck", || requests().iter().sum::<usize>() == 12).await;
    let counts = requests();
    assert!(counts.iter().all(|count| (5..=7).contains(count)), "{counts:?}");
}

#[tokio::test]
async fn a_key_has_one_endpoint_on_all_workers_and_keeps_it() {
    let three = upstreams(3).await;
    for table in [TableKind::Ring { least: 1024, most: 65_536 }, TableKind::Maglev { size: 5003 }] {
        let hashing = Hashing {
            table,
            key: Some(SplitKey::Header("x-user".parse().unwrap())),
            max_load_percent: None,
        };
        let traffic = Traffic { algorithm: Algorithm::Hash(hashing), ..Traffic::default() };
        let plane = plane(&chat(&three, traffic));
        let mut callers = callers(&plane, 6).await;
        let mut owners = Vec::new();
        for user in 0..20 {
            let before: Vec<usize> = three.iter().map(Upstream::requests).collect();
            for caller in &mut callers {
                let request = Request::get("/").header("host", "chat");
                let request = request.header("x-user", format!("user-{user}"));
                let answer = caller.request(request.body(empty()).unwrap()).await;
                assert_eq!(read(answer).await, "hello");
            }
            let grown: Vec<usize> =
                three.iter().zip(before).map(|(it, before)| it.requests() - before).collect();
            let owner = grown.iter().position(|&count| count == 6);
            owners.push(owner.unwrap_or_else(|| panic!("user-{user} is torn: {grown:?}")));
        }
        owners.sort_unstable();
        owners.dedup();
        assert_eq!(owners.len(), 3, "20 users on one endpoint of three");
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_is_ejected_for_all_workers_and_comes_back() {
    let three = upstreams(3).await;
    let outlier = Outlier {
        interval: Duration::from_millis(100),
        base_ejection_time: Duration::from_millis(600),
        ..Outlier::default()
    };
    let plane = plane(&chat(&three, Traffic { outlier: Some(outlier), ..Traffic::default() }));
    let mut callers = callers(&plane, 6).await;
    three[0].answer_only(503);
    let mut failed = 0;
    for round in 0..120 {
        let caller = &mut callers[round % 6];
        failed += usize::from(caller.get("/").await.0 != StatusCode::OK);
    }
    // Five in a row by both workers together, and perhaps one more that was on its way.
    assert!((5..=6).contains(&failed), "{failed} failed");
    let vitals = plane.vitals.by_name("default/chat/v1").unwrap();
    assert_eq!((vitals.totals().ejected, vitals.totals().ejections), (1, 1));
    three[0].answer_only(0);
    let before = three[0].requests();
    until("its time is over", || vitals.totals().ejected == 0).await;
    for caller in &mut callers {
        for _ in 0..6 {
            assert_eq!(caller.get("/").await.0, StatusCode::OK);
        }
    }
    assert!(three[0].requests() > before);
}

#[tokio::test]
async fn the_last_endpoints_are_picked_however_bad_they_are() {
    let one = upstreams(1).await;
    let plane =
        plane(&chat(&one, Traffic { outlier: Some(Outlier::default()), ..Traffic::default() }));
    let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
    one[0].answer_only(500);
    for _ in 0..10 {
        assert_eq!(caller.get("/").await, (StatusCode::INTERNAL_SERVER_ERROR, "only this".into()));
    }
}

fn probe(kind: ProbeKind) -> Probe {
    Probe {
        kind,
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(500),
        thresholds: Thresholds { healthy: 1, unhealthy: 2 },
    }
}

fn http_probe() -> ProbeKind {
    let path = PathAndQuery::from_static("/healthz");
    let expected = std::iter::once(200..300).collect();
    ProbeKind::Http { host: None, path, http2: false, expected }
}

#[tokio::test]
async fn endpoints_whose_probes_fail_are_left_alone_until_they_pass() {
    let two = upstreams(2).await;
    let traffic = Traffic { probe: Some(probe(http_probe())), ..Traffic::default() };
    let plane = plane(&chat(&two, traffic));
    let vitals = || plane.vitals.by_name("default/chat/v1");
    until("both pass", || vitals().is_some_and(|it| it.totals().sick == 0)).await;
    two[0].answer_only(500);
    until("one fails", || vitals().is_some_and(|it| it.totals().sick == 1)).await;
    let mut callers = callers(&plane, 4).await;
    for round in 0..20 {
        assert_eq!(callers[round % 4].get("/").await.0, StatusCode::OK, "round {round}");
    }
    two[0].answer_only(0);
    until("both pass again", || vitals().is_some_and(|it| it.totals().sick == 0)).await;
}

#[tokio::test]
async fn a_probe_by_tcp_needs_a_connection_only() {
    let two = upstreams(2).await;
    two[0].answer_only(500);
    let traffic = Traffic { probe: Some(probe(ProbeKind::Tcp)), ..Traffic::default() };
    let plane = plane(&chat(&two, traffic));
    let sick = || plane.vitals.by_name("default/chat/v1").map(|it| it.totals().sick);
    until("both pass", || sick() == Some(0)).await;
    two[1].task.abort();
    until("the one that is gone fails", || sick() == Some(1)).await;
}

#[tokio::test]
async fn a_probe_by_grpc_asks_for_the_health_of_a_service() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("chat", ServingStatus::Serving).await;
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    let kind = ProbeKind::Grpc { authority: None, service: "chat".into() };
    let traffic = Traffic { probe: Some(probe(kind)), ..Traffic::default() };
    let plane = plane(&Chat { traffic, ..Chat::http2(address) });
    let sick = || plane.vitals.by_name("default/chat/v1").map(|it| it.totals().sick);
    until("it passes", || sick() == Some(0)).await;
    reporter.set_service_status("chat", ServingStatus::NotServing).await;
    until("it fails", || sick() == Some(1)).await;
    reporter.set_service_status("chat", ServingStatus::Serving).await;
    until("it passes again", || sick() == Some(0)).await;
}

#[tokio::test]
async fn requests_beyond_the_cap_wait_for_those_before() {
    let upstream = upstream(HttpVersion::Http1).await;
    for limits in [
        PoolLimits { max_requests: 1, ..PoolLimits::default() },
        PoolLimits { max_connections: 1, ..PoolLimits::default() },
    ] {
        let plane = plane(&Chat { limits, ..Chat::http1(upstream.address) });
        let begun = upstream.requests();
        let mut running = Vec::new();
        // Of five on two workers at least three share one, where one connection has to do.
        for (i, mut caller) in callers(&plane, 5).await.into_iter().enumerate() {
            if i > 0 {
                until("the first runs", || upstream.requests() > begun).await;
            }
            running.push(tokio::spawn(async move { caller.get("/brief").await.0 }));
        }
        for one in running {
            assert_eq!(one.await.unwrap(), StatusCode::OK);
        }
        assert_eq!(plane.counters.all()[0].totals().pending, 0);
    }
}

#[tokio::test]
async fn nobody_waits_longer_than_a_second() {
    let upstream = upstream(HttpVersion::Http1).await;
    let limits = PoolLimits { max_requests: 1, ..PoolLimits::default() };
    let plane = plane(&Chat { limits, ..Chat::http1(upstream.address) });
    let mut callers = callers(&plane, 2).await;
    let mut first = callers.remove(0);
    let stuck = tokio::spawn(async move { first.get("/never").await });
    until("the first runs", || upstream.requests() == 1).await;
    let begun = Instant::now();
    let (status, body) = callers[0].get("/").await;
    let waited = begun.elapsed();
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && body.contains("overflow"), "{body}");
    assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&waited), "{waited:?}");
    stuck.abort();
}

#[tokio::test]
async fn a_backend_that_fails_gets_no_more_retries_than_the_budget_pays() {
    let upstream = upstream(HttpVersion::Http1).await;
    upstream.answer_only(503);
    let retry = Retry {
        attempts: 3,
        statuses: vec![StatusCode::SERVICE_UNAVAILABLE],
        grpc_statuses: 0,
        reset: false,
        hedges: false,
        backoff: Duration::ZERO,
        max_backoff: Duration::ZERO,
    };
    let retry_budget = RetryBudget { percent: 20, min_per_second: 0 };
    let traffic = Traffic { retry_budget, ..Traffic::default() };
    let plane = plane(&Chat { retry: Some(retry), traffic, ..Chat::http1(upstream.address) });
    let mut callers = callers(&plane, 4).await;
    for round in 0..200 {
        let status = callers[round % 4].get("/").await.0;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    }
    let totals = plane.counters.all()[0].totals();
    assert!((36..=40).contains(&totals.retries), "{totals:?}");
    assert_eq!(upstream.requests() as u64, 200 + totals.retries);
    assert!(totals.retries_refused >= 150, "{totals:?}");
}

#[tokio::test]
async fn the_next_priority_serves_when_the_first_is_gone() {
    let two = upstreams(2).await;
    let outlier = Some(Outlier { max_ejected_percent: 100, ..Outlier::default() });
    let traffic = Traffic { outlier, ..Traffic::default() };
    let chat = chat(&two, traffic);
    let plane = plane(&chat);
    let mut snapshot = chat.snapshot(2);
    let index = snapshot.clusters.index_of("default/chat/v1").unwrap();
    let mut cluster = (**snapshot.clusters.get(index).unwrap()).clone();
    let mut endpoints = cluster.endpoints.to_vec();
    endpoints[1].priority = 1;
    cluster.endpoints = endpoints.into();
    snapshot.clusters = segue_sidecar_core::snapshot::ClusterTable::new(vec![Arc::new(cluster)]);
    plane.snapshots.publish(snapshot);
    let mut callers = callers(&plane, 4).await;
    for round in 0..20 {
        assert_eq!(callers[round % 4].get("/").await.0, StatusCode::OK);
    }
    assert_eq!((two[0].requests(), two[1].requests()), (20, 0));
    two[0].answer_only(503);
    for round in 0..20 {
        callers[round % 4].get("/").await;
    }
    assert!(two[0].requests() <= 26 && two[1].requests() >= 14, "the spare one serves");
}

#[tokio::test]
async fn a_request_is_repeated_with_its_body() {
    let two = upstreams(2).await;
    two[0].answer_only(503);
    let retry = Retry {
        attempts: 1,
        statuses: vec![StatusCode::SERVICE_UNAVAILABLE],
        grpc_statuses: 0,
        reset: false,
        hedges: false,
        backoff: Duration::ZERO,
        max_backoff: Duration::ZERO,
    };
    let plane = plane(&Chat { retry: Some(retry), ..chat(&two, Traffic::default()) });
    for from in [HttpVersion::Http1, HttpVersion::Http2] {
        let mut caller = Caller::connect(from, plane.outbound).await;
        for _ in 0..4 {
            let answer = caller.send("POST", "/echo", whole("question")).await;
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(read(answer).await, "question");
        }
    }
    assert!(two[0].requests() >= 4, "{}", two[0].requests());
}

#[tokio::test]
async fn an_instance_is_reached_at_the_first_of_its_addresses_that_answers() {
    for http in [HttpVersion::Http1, HttpVersion::Http2] {
        let living = upstream(http).await;
        // Nobody listens there any more.
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let chat = Chat { http, ..Chat::http1(closed) };
        let plane = plane(&chat);
        let mut caller = Caller::connect(HttpVersion::Http1, plane.outbound).await;
        assert_eq!(caller.get("/").await.0, StatusCode::SERVICE_UNAVAILABLE);

        let mut snapshot = chat.snapshot(2);
        let mut cluster = (**snapshot.clusters.iter().next().unwrap()).clone();
        let others = Arc::from([living.address]);
        cluster.endpoints = [Endpoint { others, ..Endpoint::new(closed) }].into();
        snapshot.clusters = ClusterTable::new(vec![Arc::new(cluster)]);
        plane.snapshots.publish(snapshot);
        assert_eq!(caller.get("/").await.0, StatusCode::OK, "{http:?}");
    }
}
