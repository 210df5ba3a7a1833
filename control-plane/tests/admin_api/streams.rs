//! Watch and wait.

use std::time::Duration;

use prost::Message as _;
use segue_proto::admin::v1::wait_activated_response::Outcome;
use segue_proto::admin::v1::{
    DeleteRequest, ListSidecarsRequest, WaitActivatedRequest, WaitActivatedResponse, WatchRequest,
    WatchResponse,
};
use segue_proto::config::v1::ResourceKey;
use segue_proto::report::v1::report_service_client::ReportServiceClient;
use segue_proto::report::v1::{Delivery, Node, Rejection, ReportRequest};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::support::{Plane, chat, empty, route, service};

const PATIENCE: Duration = Duration::from_secs(20);

pub async fn next<T>(stream: &mut Streaming<T>) -> T {
    timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap()
}

/// A sidecar, as far as its report stream goes.
pub struct Sidecar {
    reports: mpsc::Sender<ReportRequest>,
    _answers: Streaming<segue_proto::report::v1::ReportResponse>,
}

impl Sidecar {
    pub async fn connect(plane: &Plane, id: &str, activated: u64) -> Self {
        let address = format!("http://{}", plane.running.xds_address);
        let mut client = ReportServiceClient::connect(address).await.unwrap();
        let (reports, receiver) = mpsc::channel(4);
        let node = Node {
            id: id.to_owned(),
            service: "default/chat".to_owned(),
            version: "v1".to_owned(),
            release: "test".to_owned(),
        };
        let first = ReportRequest { node: Some(node), ..delivery(activated, vec![]) };
        reports.send(first).await.unwrap();
        let mut answers = client.report(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        next(&mut answers).await;
        let sidecar = Self { reports, _answers: answers };
        let mut status = plane.status.clone();
        let known = async {
            loop {
                let list = status.list_sidecars(ListSidecarsRequest::default()).await.unwrap();
                let sidecars = list.into_inner().sidecars;
                if sidecars.iter().any(|sidecar| sidecar.node_id == id && sidecar.reports) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, known).await.unwrap();
        sidecar
    }

    pub async fn report(&self, activated: u64, rejections: Vec<Rejection>) {
        self.reports.send(delivery(activated, rejections)).await.unwrap();
    }
}

fn delivery(activated: u64, rejections: Vec<Rejection>) -> ReportRequest {
    let delivery =
        Delivery { accepted_revision: activated, activated_revision: activated, rejections };
    ReportRequest { delivery: Some(delivery), ..ReportRequest::default() }
}

pub async fn wait(
    plane: &mut Plane,
    revision: u64,
    millis: i32,
) -> Streaming<WaitActivatedResponse> {
    let timeout = prost_types::Duration {
        seconds: i64::from(millis / 1000),
        nanos: millis % 1000 * 1_000_000,
    };
    let request = WaitActivatedRequest { revision, timeout: Some(timeout) };
    plane.status.wait_activated(request).await.unwrap().into_inner()
}

pub async fn end(stream: &mut Streaming<WaitActivatedResponse>) -> WaitActivatedResponse {
    loop {
        let progress = next(stream).await;
        if progress.done {
            return progress;
        }
    }
}

#[tokio::test]
async fn a_watch_tells_what_is_and_then_what_changes() {
    let (mut plane, _directory) = empty().await;
    plane.apply(&chat(5)).await.unwrap();
    let request = WatchRequest { kind: "Route".to_owned(), ..WatchRequest::default() };
    let mut watch = plane.config.watch(request).await.unwrap().into_inner();
    let first: WatchResponse = next(&mut watch).await;
    assert_eq!((first.revision, first.upserted.len()), (1, 1));
    // What is not asked for is not told: the next message is of the route again.
    plane.apply(&service("other")).await.unwrap();
    plane.apply(&route("chat", 50)).await.unwrap();
    let second = next(&mut watch).await;
    assert_eq!((second.revision, second.upserted.len()), (3, 1));
    assert!(second.upserted[0].yaml.contains("weight: 50\n"));
    let key = ResourceKey {
        kind: "Route".to_owned(),
        namespace: "default".to_owned(),
        name: "chat".to_owned(),
    };
    let request = DeleteRequest { keys: vec![key.clone()], ..DeleteRequest::default() };
    plane.config.delete(request).await.unwrap();
    let third = next(&mut watch).await;
    assert_eq!((third.upserted.len(), third.deleted), (0, vec![key]));
}

#[tokio::test]
async fn what_exists_comes_in_messages_that_every_client_takes() {
    let (mut plane, _directory) = empty().await;
    let long = "x".repeat(700 * 1024);
    for name in ["a", "b", "c"] {
        let annotated = format!("metadata: {{name: {name}, annotations: {{note: {long}}}}}");
        let service = service(name).replace(&format!("metadata: {{name: {name}}}"), &annotated);
        plane.apply(&service).await.unwrap();
    }
    let mut watch = plane.config.watch(WatchRequest::default()).await.unwrap().into_inner();
    let mut messages = Vec::new();
    loop {
        let message: WatchResponse = next(&mut watch).await;
        assert!(message.encoded_len() < 2 * 1024 * 1024, "{}", message.encoded_len());
        messages.push((message.revision, message.upserted.len(), message.more));
        if !message.more {
            break;
        }
    }
    assert_eq!(messages, [(3, 1, true), (3, 1, true), (3, 1, false)]);
}

#[tokio::test]
async fn a_stopping_control_plane_ends_watches_and_says_so() {
    let (mut plane, _directory) = empty().await;
    let mut watch = plane.config.watch(WatchRequest::default()).await.unwrap().into_inner();
    next(&mut watch).await;
    let stopped = timeout(PATIENCE, plane.running.shutdown());
    let (stopped, ended) = tokio::join!(stopped, watch.message());
    stopped.unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_wait_ends_when_every_connected_sidecar_runs_on_it() {
    let (mut plane, _directory) = empty().await;
    plane.apply(&chat(5)).await.unwrap();
    let a = Sidecar::connect(&plane, "a", 1).await;
    let b = Sidecar::connect(&plane, "b", 0).await;
    let mut stream = wait(&mut plane, 1, 20_000).await;
    let first = next(&mut stream).await;
    assert_eq!((first.total, first.activated, first.done), (2, 1, false));
    assert_eq!(first.missing, ["b"]);
    b.report(1, vec![]).await;
    let last = end(&mut stream).await;
    assert_eq!((last.activated, last.outcome()), (2, Outcome::Activated));
    drop(a);
}

#[tokio::test]
async fn a_sidecar_that_goes_away_is_not_waited_for() {
    let (mut plane, _directory) = empty().await;
    plane.apply(&chat(5)).await.unwrap();
    let _a = Sidecar::connect(&plane, "a", 1).await;
    let b = Sidecar::connect(&plane, "b", 0).await;
    let mut stream = wait(&mut plane, 1, 20_000).await;
    assert!(!next(&mut stream).await.done);
    drop(b);
    let last = end(&mut stream).await;
    assert_eq!((last.total, last.outcome()), (1, Outcome::Activated));
}

#[tokio::test]
async fn a_refusal_ends_a_wait_and_says_why() {
    let (mut plane, _directory) = empty().await;
    plane.apply(&chat(5)).await.unwrap();
    let sidecar = Sidecar::connect(&plane, "a", 0).await;
    let mut stream = wait(&mut plane, 1, 20_000).await;
    let rejection = Rejection {
        type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
        resource: "default/chat/v1".to_owned(),
        field_path: "lb_policy".to_owned(),
        reason: "not supported".to_owned(),
        revision: 1,
    };
    sidecar.report(0, vec![rejection]).await;
    let last = end(&mut stream).await;
    assert_eq!(last.outcome(), Outcome::Rejected);
    let rejecting = &last.rejecting[0];
    assert_eq!(rejecting.node_id, "a");
    let told = rejecting.rejection.clone().unwrap();
    assert_eq!((told.r#type.as_str(), told.field_path.as_str()), ("Cluster", "lb_policy"));
}

#[tokio::test]
async fn a_wait_ends_when_its_time_is_over() {
    let (mut plane, _directory) = empty().await;
    plane.apply(&chat(5)).await.unwrap();
    let _sidecar = Sidecar::connect(&plane, "slow", 0).await;
    let mut stream = wait(&mut plane, 1, 50).await;
    let last = end(&mut stream).await;
    assert_eq!((last.outcome(), last.missing), (Outcome::Timeout, vec!["slow".to_owned()]));
}

#[tokio::test]
async fn a_wait_for_more_than_an_hour_is_refused() {
    let (mut plane, _directory) = empty().await;
    let timeout = Some(prost_types::Duration { seconds: 3601, nanos: 0 });
    let request = WaitActivatedRequest { revision: 0, timeout };
    let status = plane.status.wait_activated(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}
