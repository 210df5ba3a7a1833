//! Ports: who may reach them, and what the HTTP one tells.

use std::net::SocketAddr;
use std::time::Duration;

use segue_control_plane::assembly::{StartError, start};
use segue_control_plane::settings::Settings;
use segue_control_plane::store::{Commit, RedbStore, Store as _, StoreError};
use segue_proto::admin::v1::ListRequest;
use segue_proto::admin::v1::condition::Status as Condition;
use segue_proto::config::v1::resource::Resource as Body;
use segue_proto::config::v1::{ObjectMeta, Resource, Service};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{chat, empty, on};

/// Status line and body of a GET.
pub async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

async fn until_ready(address: SocketAddr) {
    let ready = async {
        while get(address, "/readyz").await.0 != "HTTP/1.1 200 OK" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ready).await.unwrap();
}

#[tokio::test]
async fn the_http_port_tells_life_readiness_and_metrics() {
    let (mut plane, _directory) = empty().await;
    let http = plane.running.http_address;
    plane.apply(&chat(5)).await.unwrap();
    plane.apply("kind: Nonsense").await.unwrap_err();
    until_ready(http).await;
    assert_eq!(get(http, "/livez").await, ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    assert!(get(http, "/").await.1.contains("/metrics"));
    assert_eq!(get(http, "/nope").await.0, "HTTP/1.1 404 Not Found");
    let metrics = get(http, "/metrics").await.1;
    for line in [
        "segue_control_plane_revision 1\n",
        "segue_control_plane_commits_total 1\n",
        "segue_control_plane_sidecars_connected 0\n",
        "# UNIT segue_control_plane_change_seconds seconds\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_store_that_todays_rules_refuse_is_told_and_can_be_mended() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path(), 10).unwrap();
    // A service without versions passes no check.
    let metadata = Some(ObjectMeta { name: "chat".to_owned(), ..ObjectMeta::default() });
    let service = Service {
        api_version: segue_proto::API_VERSION.to_owned(),
        kind: "Service".to_owned(),
        metadata,
        ..Service::default()
    };
    let commit = Commit {
        expected: None,
        upserts: vec![Resource { resource: Some(Body::Service(service)) }],
        deletes: vec![],
        author: String::new(),
        message: String::new(),
        restores: None,
        at: std::time::SystemTime::now(),
    };
    store.commit(commit).await.unwrap();
    drop(store);
    let mut plane = on(directory.path()).await;
    let http = plane.running.http_address;
    let told = async {
        loop {
            let (status, body) = get(http, "/readyz").await;
            if body.contains("does not pass the checks") {
                return (status, body);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (status, body) = tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert!(body.contains("Service default/chat"), "{body}");
    let list = plane.config.list(ListRequest::default()).await.unwrap().into_inner();
    let accepted = &list.resources[0].conditions[0];
    assert_eq!((accepted.status(), accepted.reason.as_str()), (Condition::False, "HeldBack"));
    assert!(accepted.message.contains("revision 1 is held back: Service default/chat: "));
    assert_eq!(plane.apply(&chat(5)).await.unwrap().revision, 2);
    until_ready(http).await;
}

#[tokio::test]
async fn ports_in_plain_text_stay_on_this_machine() {
    let directory = tempfile::tempdir().unwrap();
    let everywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let local = Settings { insecure_dev: false, ..Settings::local(directory.path()) };
    for settings in [
        Settings { admin_address: everywhere, ..local.clone() },
        Settings { xds_address: everywhere, ..local.clone() },
    ] {
        let error = start(settings).await.err().unwrap();
        assert!(matches!(error, StartError::NotLoopback { .. }), "{error}");
        assert!(error.to_string().contains("--insecure-dev"), "{error}");
    }
}

#[tokio::test]
async fn one_data_directory_serves_one_process() {
    let (_plane, directory) = empty().await;
    let error = start(Settings::local(directory.path())).await.err().unwrap();
    assert!(matches!(error, StartError::Store(StoreError::InUse { .. })), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (plane, _directory) = empty().await;
    let other = tempfile::tempdir().unwrap();
    let taken = plane.running.http_address;
    let settings = Settings { http_address: taken, ..Settings::local(other.path()) };
    let error = start(settings).await.err().unwrap().to_string();
    assert!(error.contains(&format!("--http-address {taken}")), "{error}");
}
