//! Load reports of Envoys and gRPC clients, on the port of xDS, as the status shows them.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterStats, UpstreamLocalityStats};
use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_client::LoadReportingServiceClient;
use envoy_types::pb::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use segue_proto::admin::v1::{ListSidecarsRequest, Sidecar};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::support::{Plane, chat, empty, service};

const PATIENCE: Duration = Duration::from_secs(20);

/// A client that reports its load.
struct Client {
    reports: mpsc::Sender<LoadStatsRequest>,
    answers: Streaming<LoadStatsResponse>,
}

impl Client {
    /// Opens the stream with nothing but the node.
    async fn connect(plane: &Plane, id: &str, features: &[&str]) -> Self {
        let address = format!("http://{}", plane.running.xds_address);
        let mut client = LoadReportingServiceClient::connect(address).await.unwrap();
        let (reports, receiver) = mpsc::channel(4);
        let node = Node {
            id: id.to_owned(),
            user_agent_name: "envoy".to_owned(),
            client_features: features.iter().map(|&feature| feature.to_owned()).collect(),
            ..Node::default()
        };
        let first = LoadStatsRequest { node: Some(node), cluster_stats: Vec::new() };
        reports.send(first).await.unwrap();
        let answers = client.stream_load_stats(ReceiverStream::new(receiver)).await.unwrap();
        Self { reports, answers: answers.into_inner() }
    }

    async fn next(&mut self) -> Result<LoadStatsResponse, Status> {
        let next = timeout(PATIENCE, self.answers.message()).await.unwrap();
        next.map(Option::unwrap)
    }

    /// Reports requests to a cluster: begun, failed, in flight, dropped.
    async fn report(&self, cluster: &str, [issued, failed, in_flight, dropped]: [u64; 4]) {
        let locality = UpstreamLocalityStats {
            total_issued_requests: issued,
            total_error_requests: failed,
            total_requests_in_progress: in_flight,
            ..UpstreamLocalityStats::default()
        };
        let stats = ClusterStats {
            cluster_name: cluster.to_owned(),
            upstream_locality_stats: vec![locality],
            total_dropped_requests: dropped,
            ..ClusterStats::default()
        };
        let report = LoadStatsRequest { node: None, cluster_stats: vec![stats] };
        self.reports.send(report).await.unwrap();
    }
}

/// Waits until the node is as expected.
async fn node(plane: &mut Plane, id: &str, expected: impl Fn(&Sidecar) -> bool) -> Sidecar {
    let found = async {
        loop {
            let list = plane.status.list_sidecars(ListSidecarsRequest::default()).await.unwrap();
            let mut sidecars = list.into_inner().sidecars.into_iter();
            if let Some(found) = sidecars.find(|one| one.node_id == id && expected(one)) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, found).await.unwrap()
}

#[tokio::test]
async fn a_client_that_needs_a_list_is_asked_for_our_clusters_and_for_new_ones() {
    let (mut plane, _directory) = empty().await;
    plane.apply(&chat(5)).await.unwrap();
    let mut client = Client::connect(&plane, "old", &[]).await;
    let mut asked = client.next().await.unwrap();
    while asked.clusters.is_empty() {
        // The revision is still on its way from the store.
        asked = client.next().await.unwrap();
    }
    assert_eq!(asked.clusters, ["default/chat/v1", "default/chat/v2"]);
    assert!(!asked.send_all_clusters && !asked.report_endpoint_granularity);
    assert_eq!(asked.load_reporting_interval.unwrap().seconds, 1);

    plane.apply(&service("cart")).await.unwrap();
    let again = client.next().await.unwrap();
    assert_eq!(again.clusters.len(), 4);
    assert!(again.clusters.iter().any(|cluster| cluster == "default/cart/v2"));
}

#[tokio::test]
async fn reports_of_a_client_add_up_to_the_counts_that_the_status_shows() {
    let (mut plane, _directory) = empty().await;
    let mut client =
        Client::connect(&plane, "grpc", &["envoy.lrs.supports_send_all_clusters"]).await;
    let asked = client.next().await.unwrap();
    assert!(asked.send_all_clusters && asked.clusters.is_empty());

    client.report("default/chat/v2", [10, 1, 3, 2]).await;
    client.report("some-other-cluster", [7, 7, 7, 7]).await;
    client.report("default/chat/v2", [5, 0, 1, 0]).await;
    let grpc = node(&mut plane, "grpc", |node| {
        node.traffic.first().is_some_and(|count| count.requests == 15)
    })
    .await;
    assert!(grpc.connected && !grpc.reports);
    let count = &grpc.traffic[0];
    assert_eq!((count.service.as_str(), count.version.as_str()), ("default/chat", "v2"));
    assert_eq!((count.failures, count.in_flight, count.dropped), (1, 1, 2));
    assert_eq!(grpc.traffic.len(), 1);

    drop(client);
    let gone = node(&mut plane, "grpc", |node| !node.connected).await;
    assert_eq!(gone.traffic[0].requests, 15);
}

#[tokio::test]
async fn a_load_report_without_a_node_is_refused() {
    let (plane, _directory) = empty().await;
    let mut client = Client::connect(&plane, "", &[]).await;
    assert_eq!(client.next().await.unwrap_err().code(), Code::InvalidArgument);
}
