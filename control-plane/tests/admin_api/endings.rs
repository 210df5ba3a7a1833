//! What ends though its client would go on: at shutdown, for its age, with its token.

use std::fs;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::load_stats::v3::LoadStatsRequest;
use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_client::LoadReportingServiceClient;
use segue_control_plane::access::AccessSettings;
use segue_control_plane::admin;
use segue_control_plane::assembly::{ControlPlane, start};
use segue_control_plane::settings::Settings;
use segue_proto::admin::v1::WatchRequest;
use segue_proto::admin::v1::config_service_client::ConfigServiceClient;
use segue_proto::report::v1::ReportRequest;
use segue_proto::report::v1::report_service_client::ReportServiceClient;
use segue_proto::report::v1::{self as report};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic::{Code, Request, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{file, service};

const PATIENCE: Duration = Duration::from_secs(20);

async fn admin(running: &ControlPlane) -> Channel {
    let address = format!("http://{}", running.admin_address);
    Channel::from_shared(address).unwrap().connect().await.unwrap()
}

/// How a stream ends.
async fn end<T>(mut answers: Streaming<T>) -> Code {
    let end = async {
        loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Code::Ok,
                Err(status) => return status.code(),
            }
        }
    };
    timeout(PATIENCE, end).await.unwrap()
}

#[tokio::test]
async fn a_client_that_watches_for_ever_does_not_hold_up_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(Settings { drain_seconds: 1, ..Settings::local(directory.path()) });
    let running = running.await.unwrap();
    let channel = admin(&running).await;
    let check = HealthCheckRequest::default();
    let mut health = HealthClient::new(channel.clone()).watch(check).await.unwrap().into_inner();
    health.message().await.unwrap();
    ConfigServiceClient::new(channel).apply(file("x.yaml", &service("chat"))).await.unwrap();
    timeout(PATIENCE, running.shutdown()).await.expect("no end");
    assert_ne!(end(health).await, Code::Ok, "it was cut");
    let told = fs::read_to_string(directory.path().join("audit.log")).unwrap();
    assert!(told.contains("ConfigService/Apply"), "{told}");
}

#[tokio::test]
async fn a_connection_to_the_admin_port_reaches_its_age() {
    let directory = tempfile::tempdir().unwrap();
    let limits = admin::Settings { admin_max_age_seconds: 1, ..admin::Settings::default() };
    let running = start(Settings { admin: limits, ..Settings::local(directory.path()) });
    let running = running.await.unwrap();
    let mut client = ConfigServiceClient::new(admin(&running).await);
    let watch = client.watch(WatchRequest::default()).await.unwrap().into_inner();
    assert_ne!(end(watch).await, Code::Ok);
    client.watch(WatchRequest::default()).await.expect("a new connection");
    let metrics = crate::ports::get(running.http_address, "/metrics").await.1;
    assert!(metrics.contains("ended_connections_total{port=\"admin\",reason=\"age\"} 1\n"));
}

const TOKENS: [&str; 2] = ["segue-join-one-0123456789", "segue-join-two-0123456789"];

/// Streams of all kinds of one node with this token.
async fn streams(running: &ControlPlane, token: &str) -> impl Future<Output = [Code; 3]> + use<> {
    fn with<T>(message: T, token: &str) -> Request<T> {
        let mut request = Request::new(message);
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        request
    }
    let address = format!("http://{}", running.xds_address);
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    let node = Node { id: token.to_owned(), ..Node::default() };
    let ads = DeltaDiscoveryRequest {
        node: Some(node.clone()),
        type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    let ads = tokio_stream::iter([ads]).chain(tokio_stream::pending());
    let mut client = AggregatedDiscoveryServiceClient::new(channel.clone());
    let ads = client.delta_aggregated_resources(with(ads, token)).await.unwrap().into_inner();
    let sidecar = report::Node { id: token.to_owned(), ..report::Node::default() };
    let reports = ReportRequest { node: Some(sidecar), ..ReportRequest::default() };
    let reports = tokio_stream::iter([reports]).chain(tokio_stream::pending());
    let mut client = ReportServiceClient::new(channel.clone());
    let reports = client.report(with(reports, token)).await.unwrap().into_inner();
    let loads = LoadStatsRequest { node: Some(node), ..LoadStatsRequest::default() };
    let loads = tokio_stream::iter([loads]).chain(tokio_stream::pending());
    let mut client = LoadReportingServiceClient::new(channel);
    let loads = client.stream_load_stats(with(loads, token)).await.unwrap().into_inner();
    async { [end(ads).await, end(reports).await, end(loads).await] }
}

#[tokio::test]
async fn all_streams_of_a_join_token_end_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("join");
    fs::write(&file, TOKENS.join("\n")).unwrap();
    let access =
        AccessSettings { join_token_file: Some(file.clone()), ..AccessSettings::default() };
    let data = directory.path().join("data");
    let running = start(Settings { insecure_dev: false, access, ..Settings::local(data) });
    let running = running.await.unwrap();
    let stays = streams(&running, TOKENS[0]).await;
    let goes = streams(&running, TOKENS[1]).await;
    fs::write(&file, TOKENS[0]).unwrap();
    assert_eq!(goes.await, [Code::Unauthenticated; 3]);
    assert!(timeout(Duration::from_millis(1500), stays).await.is_err(), "the other one's go on");
}
