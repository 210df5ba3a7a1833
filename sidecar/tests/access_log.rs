//! What the access log tells of requests.
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

mod support;

use std::fs;
use std::path::Path;

use segue_sidecar::access_log::{AccessLog, Logged};
use segue_sidecar::http::Door;
use segue_sidecar_core::snapshot::HttpVersion;
use serde_json::{Value, json};
use support::{Caller, Chat, plane_with_door, raw, until, upstream};

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn door(logged: Logged, file: &Path) -> Door {
    Door { access_log: Some(AccessLog::begin(logged, file).unwrap()), ..Door::default() }
}

#[tokio::test]
async fn refusals_and_errors_are_told_with_their_flags() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.log");
    let upstream = upstream(HttpVersion::Http1).await;
    let chat = Chat::http1(upstream.address);
    let plane = plane_with_door(&chat, None, door(Logged::Errors, &file));
    let ask = |host: &str, path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    };
    for (host, path) in [
        ("chat", "/fine"),
        ("elsewhere", "/nowhere?secret=1"),
        ("chat", "/unavailable"),
        ("chat", "/%zz"),
    ] {
        raw(plane.outbound, &ask(host, path)).await;
    }
    raw(plane.outbound, "GET  / HTTP/9\r\n\r\n").await;
    until("all lines are written", || lines(&file).len() == 4).await;
    let lines = lines(&file);
    let of = |path: &str| lines.iter().find(|line| line["path"] == path).unwrap();
    let nowhere = of("/nowhere");
    assert_eq!((&nowhere["status"], &nowhere["flags"]), (&json!(404), &json!("NR")));
    assert_eq!(nowhere["authority"], "elsewhere");
    assert_eq!(
        (&nowhere["direction"], &nowhere["protocol"]),
        (&json!("outbound"), &json!("HTTP/1.1"))
    );
    let unavailable = of("/unavailable");
    assert_eq!((&unavailable["status"], &unavailable["flags"]), (&json!(503), &json!("")));
    assert_eq!(unavailable["cluster"], "default/chat/v1");
    let unread: Vec<&Value> = lines.iter().filter(|line| line["path"] == "").collect();
    assert_eq!(unread.len(), 2, "{lines:?}");
    assert!(unread.iter().all(|line| line["flags"] == "DPE" && line["status"] == 400));
    let all = fs::read_to_string(&file).unwrap();
    assert!(!all.contains("secret") && !all.contains("/fine"), "{all}");
}

#[tokio::test]
async fn all_requests_are_told_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.log");
    let upstream = upstream(HttpVersion::Http2).await;
    let plane = plane_with_door(&Chat::http2(upstream.address), None, door(Logged::All, &file));
    let mut caller = Caller::connect(HttpVersion::Http2, plane.outbound).await;
    for _ in 0..5 {
        caller.get("/a?b").await;
    }
    until("all lines are written", || lines(&file).len() == 5).await;
    for line in lines(&file) {
        assert_eq!((&line["path"], &line["status"]), (&json!("/a"), &json!(200)));
        assert_eq!((&line["protocol"], &line["flags"]), (&json!("HTTP/2.0"), &json!("")));
        assert_eq!(line["method"], "GET");
    }
}
