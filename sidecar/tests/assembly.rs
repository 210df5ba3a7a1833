//! The whole sidecar in this process: it begins without a control plane, serves what it can, and
//! ends in peace, as often as one likes.

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Parser as _;
use http::StatusCode;
use segue_sidecar::assembly::{self, Sidecar};
use segue_sidecar::settings::Settings;
use segue_sidecar_core::snapshot::HttpVersion;
use support::{Caller, Chat, raw, upstream};

#[allow(clippy::unwrap_used)] // A helper of tests, which the lint does not know.
async fn start(app: SocketAddr, outbound: &str) -> Sidecar {
    let app = app.to_string();
    let settings = Settings::parse_from([
        "segue-sidecar",
        "--service=chat",
        "--version=v2",
        "--control-plane=http://127.0.0.1:1",
        "--inbound-address=127.0.0.1:0",
        "--admin-address=127.0.0.1:0",
        "--workers=2",
        "--drain-timeout=3",
        "--app-address",
        &app,
        "--outbound-address",
        outbound,
    ]);
    assembly::start(settings).await.unwrap()
}

async fn ask(admin: SocketAddr, line: &str) -> String {
    raw(admin, &format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn a_sidecar_without_a_control_plane_is_live_but_not_ready() {
    let app = upstream(HttpVersion::Http1).await;
    let sidecar = start(app.address, "127.0.0.1:0").await;
    let admin = sidecar.admin_address;
    assert!(ask(admin, "GET /livez").await.starts_with("HTTP/1.1 200"));
    assert!(ask(admin, "GET /readyz").await.starts_with("HTTP/1.1 503"));
    let mut inbound = Caller::connect(HttpVersion::Http1, sidecar.inbound_address.unwrap()).await;
    assert_eq!(inbound.get("/").await, (StatusCode::OK, "hello".into()));
    let mut outbound = Caller::connect(HttpVersion::Http1, sidecar.outbound_address).await;
    let (status, body) = outbound.get("/").await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && body.contains("no_configuration"));
    sidecar.snapshots.publish(Chat::http1(app.address).snapshot(1));
    assert_eq!(outbound.get("/").await, (StatusCode::OK, "hello".into()));
    assert!(ask(admin, "GET /readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = ask(admin, "GET /metrics").await;
    for line in [
        "segue_requests_total{cluster=\"inbound\"} 1",
        "segue_requests_total{cluster=\"default/chat/v1\",service=\"default/chat\",version=\"v1\"} 1",
        "segue_refusals_total{reason=\"no_configuration\",flag=\"NR\"} 1",
        "segue_snapshot_generation 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(ask(admin, "POST /drain").await.starts_with("HTTP/1.1 202"));
    sidecar.drain_asked().await;
    sidecar.shutdown().await;
}

#[tokio::test]
async fn a_sidecar_starts_again_where_the_last_one_was() {
    let app = upstream(HttpVersion::Http1).await;
    let mut outbound = "127.0.0.1:0".to_owned();
    for _ in 0..3 {
        let sidecar = start(app.address, &outbound).await;
        outbound = sidecar.outbound_address.to_string();
        sidecar.snapshots.publish(Chat::http1(app.address).snapshot(1));
        let mut caller = Caller::connect(HttpVersion::Http1, sidecar.outbound_address).await;
        assert_eq!(caller.get("/").await.0, StatusCode::OK);
        let begun = Instant::now();
        sidecar.shutdown().await;
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
}
