//! Streams of reports: they have a place, an age and a pace as all streams do.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::load_stats::v3::LoadStatsRequest;
use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_client::LoadReportingServiceClient;
use segue_control_plane::xds::Settings;
use segue_proto::report::v1::report_service_client::ReportServiceClient;
use segue_proto::report::v1::{self as report, ReportRequest, ReportResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::support::{PATIENCE, Server, Sidecar};

type Reports = (mpsc::Sender<ReportRequest>, Streaming<ReportResponse>);

async fn report(server: &Server) -> Result<Reports, Status> {
    let (reports, receiver) = mpsc::channel(16);
    let node = report::Node { id: "a".to_owned(), ..report::Node::default() };
    reports.send(ReportRequest { node: Some(node), ..ReportRequest::default() }).await.unwrap();
    let mut client = ReportServiceClient::new(server.channel().await);
    let answers = client.report(ReceiverStream::new(receiver)).await?.into_inner();
    Ok((reports, answers))
}

/// How a stream ends.
async fn end<T>(answers: &mut Streaming<T>) -> Code {
    let end = async {
        loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Code::Ok,
                Err(status) => return status.code(),
            }
        }
    };
    tokio::time::timeout(PATIENCE, end).await.expect("no end")
}

#[tokio::test]
async fn a_stream_of_reports_takes_a_place() {
    let settings = Settings { xds_max_streams: 1, ..Settings::default() };
    let server = Server::with(1, settings);
    let (reports, answers) = report(&server).await.unwrap();
    let second = report(&server).await.map(|_| ()).unwrap_err();
    assert_eq!(second.code(), Code::ResourceExhausted);
    let refused = Sidecar::open(server.channel().await).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(server.metrics.refusals("streams"), 2);
    drop((reports, answers));
    server.forgotten().await;
    report(&server).await.unwrap();
}

#[tokio::test]
async fn streams_of_reports_and_of_loads_reach_their_age() {
    let server = Server::with(1, Settings { xds_max_age_seconds: 1, ..Settings::default() });
    let (_reports, mut answers) = report(&server).await.unwrap();
    let (loads, receiver) = mpsc::channel(1);
    let node = Node { id: "e".to_owned(), ..Node::default() };
    let first = LoadStatsRequest { node: Some(node), ..LoadStatsRequest::default() };
    loads.send(first).await.unwrap();
    let mut client = LoadReportingServiceClient::new(server.channel().await);
    let asked = client.stream_load_stats(ReceiverStream::new(receiver)).await.unwrap();
    assert_eq!(end(&mut answers).await, Code::Unavailable);
    assert_eq!(end(&mut asked.into_inner()).await, Code::Unavailable);
    assert_eq!(server.metrics.endings("age"), 2);
}

#[tokio::test(start_paused = true)]
async fn who_reports_without_pause_is_read_late() {
    let server = Server::with(1, Settings::default());
    let (reports, _answers) = report(&server).await.unwrap();
    let begin = tokio::time::Instant::now();
    for _ in 0..3_000 {
        reports.send(ReportRequest::default()).await.unwrap();
    }
    let all_read = || server.metrics.delayed_requests.get() > 1_500;
    server.until("they are read", |_| all_read()).await;
    let waited = begin.elapsed();
    assert!(waited > Duration::from_secs(10), "a hundred a second after the first: {waited:?}");
}
