//! The load reporting service (LRS): Envoys and gRPC clients tell what they sent where.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::time::Duration;

use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_server::LoadReportingService;
use envoy_types::pb::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use envoy_types::pb::google::protobuf;
use futures_util::Stream;
use segue_control_plane_core::compile::NodeClass;
use segue_shared::xds_names::type_urls;
use tonic::{Request, Response, Status, Streaming};

use super::Snapshots;
use super::status::introduction;
use super::stream::Ads;
use super::uploads::Uploads;
use crate::fleet::{Presence, StreamKind};
use crate::reports::lrs::loads;

/// How a client says that it needs no list of the clusters to report.
const SENDS_ALL: &str = "envoy.lrs.supports_send_all_clusters";

/// The load reporting service.
#[derive(Debug)]
pub struct LoadReports {
    ads: Ads,
}

impl LoadReports {
    pub(super) fn new(ads: Ads) -> Self {
        Self { ads }
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<LoadStatsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl LoadReportingService for LoadReports {
    type StreamLoadStatsStream = Answers;

    async fn stream_load_stats(
        &self,
        request: Request<Streaming<LoadStatsRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let reports = Uploads::open(&self.ads, request)?;
        Ok(Response::new(Box::pin(serve(reports, self.ads.clone()))))
    }
}

/// Asks for reports, again whenever there are other clusters to report, and takes them.
fn serve(
    mut reports: Uploads<LoadStatsRequest>,
    ads: Ads,
) -> impl Stream<Item = Result<LoadStatsResponse, Status>> + Send {
    async_stream::try_stream! {
        let Some(mut report) = reports.first().await? else { return };
        let node = report.node.take().unwrap_or_default();
        let class =
            NodeClass::of(&node).map_err(|error| Status::invalid_argument(error.to_string()))?;
        reports.may_be(class.service.as_ref())?;
        let interval = ads.fleet.settings().report_interval;
        let presence =
            ads.fleet.enter(introduction(&node, &class, reports.peer()), StreamKind::Load);
        note(presence.as_ref(), report);
        let sends_all = node.client_features.iter().any(|feature| feature == SENDS_ALL);
        let mut snapshots = if sends_all {
            None
        } else {
            reports.unless_stopped(ads.cache.published()).await?;
            let snapshots = reports.unless_stopped(ads.cache.watch(class)).await?;
            let told = "too many different kinds of nodes";
            Some(snapshots.ok_or_else(|| Status::resource_exhausted(told))?)
        };
        let (mut look, mut asked) = (true, None);
        loop {
            if look {
                let clusters = snapshots.as_mut().map_or_else(Vec::new, clusters);
                if asked.as_ref() != Some(&clusters) {
                    yield LoadStatsResponse {
                        send_all_clusters: snapshots.is_none(),
                        clusters: clusters.clone(),
                        load_reporting_interval: Some(duration(interval)),
                        report_endpoint_granularity: false,
                    };
                    asked = Some(clusters);
                }
            }
            match next(&mut reports, snapshots.as_mut()).await? {
                ControlFlow::Continue(report) => {
                    look = report.is_none();
                    if let Some(report) = report {
                        note(presence.as_ref(), report);
                    }
                }
                ControlFlow::Break(()) => return,
            }
        }
    }
}

/// The clusters that the client has, by name.
fn clusters(snapshots: &mut Snapshots) -> Vec<String> {
    let (newest, _) = snapshots.newest();
    let clusters = newest.of_type(type_urls::CLUSTER);
    clusters.map_or_else(Vec::new, |all| all.keys().map(ToString::to_string).collect())
}

/// The next report; nothing where there may be other clusters to ask for.
async fn next(
    reports: &mut Uploads<LoadStatsRequest>,
    snapshots: Option<&mut Snapshots>,
) -> Result<ControlFlow<(), Option<LoadStatsRequest>>, Status> {
    let changed = async {
        match snapshots {
            Some(snapshots) => snapshots.changed().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        report = reports.next() => Ok(match report? {
            Some(report) => ControlFlow::Continue(Some(report)),
            None => ControlFlow::Break(()),
        }),
        true = changed => Ok(ControlFlow::Continue(None)),
    }
}

fn note(presence: Option<&Presence>, report: LoadStatsRequest) {
    let Some(presence) = presence else { return };
    let (loads, ignored) = loads(report.cluster_stats);
    presence.loaded(loads, ignored);
}

fn duration(of: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: i64::try_from(of.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(of.subsec_nanos()).unwrap_or(0),
    }
}
