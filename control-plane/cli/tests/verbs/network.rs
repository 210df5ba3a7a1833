//! A control plane that is slow, silent, or behind a network that is gone.

use std::net::SocketAddr;
use std::time::Duration;

use segue_proto::admin::v1::backup_service_server::{BackupService, BackupServiceServer};
use segue_proto::admin::v1::status_service_server::{StatusService, StatusServiceServer};
use segue_proto::admin::v1::{
    BackupRecord, BackupRequest, ListSidecarsRequest, ListSidecarsResponse, RestoreResponse,
    WaitActivatedRequest, WaitActivatedResponse,
};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_stream::Pending;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::support::{Run, World, run};

/// A control plane that takes its time.
#[derive(Clone, Copy)]
struct Slow;

#[tonic::async_trait]
impl StatusService for Slow {
    type WaitActivatedStream = Pending<Result<WaitActivatedResponse, Status>>;

    async fn list_sidecars(
        &self,
        _: Request<ListSidecarsRequest>,
    ) -> Result<Response<ListSidecarsResponse>, Status> {
        std::future::pending().await
    }

    async fn wait_activated(
        &self,
        _: Request<WaitActivatedRequest>,
    ) -> Result<Response<Self::WaitActivatedStream>, Status> {
        Ok(Response::new(tokio_stream::pending()))
    }
}

#[tonic::async_trait]
impl BackupService for Slow {
    type BackupStream = Pending<Result<BackupRecord, Status>>;

    async fn backup(
        &self,
        _: Request<BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        Ok(Response::new(tokio_stream::pending()))
    }

    async fn restore(
        &self,
        request: Request<Streaming<BackupRecord>>,
    ) -> Result<Response<RestoreResponse>, Status> {
        let mut records = request.into_inner();
        while records.message().await?.is_some() {}
        tokio::time::sleep(Duration::from_mins(10)).await;
        Ok(Response::new(RestoreResponse { revision: 1, resources: 2 }))
    }
}

async fn slow() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .add_service(StatusServiceServer::new(Slow))
        .add_service(BackupServiceServer::new(Slow));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// Runs, and says how long it took.
async fn timed(server: SocketAddr, args: &[&str]) -> (Run, Duration) {
    let begin = Instant::now();
    let server = format!("http://{server}");
    let run = run(&[&["--server", server.as_str()], args].concat()).await;
    (run, begin.elapsed())
}

#[tokio::test]
async fn a_restore_may_take_long() {
    let world = World::with_chat().await;
    let file = world.directory.path().join("full").to_str().unwrap().to_owned();
    assert_eq!(world.segue(&["backup", "-o", &file]).await.code, 0);
    // Time does not pass at once while its audit log waits for more.
    let World { control_plane, directory: _directory } = world;
    control_plane.shutdown().await;
    tokio::time::pause();
    let (run, took) = timed(slow().await, &["restore", "--yes", &file]).await;
    assert_eq!(run.code, 0, "{run:?}");
    assert!(took >= Duration::from_mins(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_without_an_end_ends_here() {
    let (run, took) = timed(slow().await, &["wait", "--timeout", "20s"]).await;
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("did not end the wait within 25s"), "{}", run.err);
    assert!(took < Duration::from_secs(26), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_not_waited_for_without_end() {
    let (run, took) = timed(slow().await, &["status"]).await;
    assert_eq!(run.code, 1, "{run:?}");
    assert!(took < Duration::from_secs(61), "{took:?}");
}

/// Nobody answers any more, and nobody says so.
#[tokio::test(start_paused = true)]
async fn a_network_that_is_gone_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    for verb in [&["status"][..], &["wait", "--timeout", "1h"], &["backup", "-o", "-"]] {
        let (run, took) = timed(address, verb).await;
        assert_eq!(run.code, 1, "{run:?}");
        assert!(took < Duration::from_secs(16), "{verb:?}: {took:?}");
        assert!(run.err.contains("operation timed out"), "{}", run.err);
    }
    // Nor does anybody begin with TLS.
    let begin = Instant::now();
    let tls = run(&["--server", &format!("https://{address}"), "status"]).await;
    assert_eq!(tls.code, 1, "{tls:?}");
    assert!(tls.err.contains("no answer within 10s"), "{}", tls.err);
    assert!(begin.elapsed() < Duration::from_secs(11));
    held.abort();
}
