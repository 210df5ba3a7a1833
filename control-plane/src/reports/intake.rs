//! The report stream: which revision a sidecar runs, and what it sent where.

use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use segue_proto::report::v1::report_service_server::ReportService;
use segue_proto::report::v1::{Node, ReportRequest, ReportResponse};
use segue_shared::ids::Revision;
use segue_shared::shutdown::DrainSignal;
use tonic::{Request, Response, Status, Streaming};

use crate::fleet::{
    Delivery, Fleet, Introduction, Presence, Rejection, StreamKind, VersionTraffic,
};

/// Time for the first report of a stream.
const FIRST_REPORT: Duration = Duration::from_secs(10);
/// Most refused resources that are kept of one report.
const MAX_REJECTIONS: usize = 100;
/// Most bytes that are kept of a word or a reason.
const MAX_TEXT_BYTES: usize = 1024;
/// Most versions whose counts are kept of one report.
const MAX_VERSIONS: usize = 1_000;

/// The report service.
#[derive(Debug)]
pub struct Intake {
    fleet: Fleet,
    drain: DrainSignal,
}

impl Intake {
    pub fn new(fleet: Fleet, drain: DrainSignal) -> Self {
        Self { fleet, drain }
    }
}

#[tonic::async_trait]
impl ReportService for Intake {
    type ReportStream = Pin<Box<dyn Stream<Item = Result<ReportResponse, Status>> + Send>>;

    async fn report(
        &self,
        request: Request<Streaming<ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let address = request.remote_addr().map(|at| at.to_string()).unwrap_or_default();
        let mut reports = request.into_inner();
        let (fleet, drain) = (self.fleet.clone(), self.drain.clone());
        let interval = fleet.settings().report_interval;
        // The stream is its own task: nothing is queued between the sidecar and the registry.
        let answers = async_stream::try_stream! {
            yield ReportResponse { interval: prost_types::Duration::try_from(interval).ok() };
            let first = tokio::time::timeout(FIRST_REPORT, reports.message())
                .await
                .map_err(|_| Status::deadline_exceeded("no report came"))??;
            if let Some(first) = first {
                let presence = enter(&fleet, first.node.clone(), address)?;
                note(presence.as_ref(), first);
                while let Some(report) = next(&mut reports, &drain).await? {
                    note(presence.as_ref(), report);
                }
            }
        };
        Ok(Response::new(Box::pin(answers)))
    }
}

/// `None` at the end of the stream, and when the control plane drains.
async fn next(
    reports: &mut Streaming<ReportRequest>,
    drain: &DrainSignal,
) -> Result<Option<ReportRequest>, Status> {
    tokio::select! {
        report = reports.message() => report,
        () = drain.cancelled() => Ok(None),
    }
}

fn enter(fleet: &Fleet, node: Option<Node>, address: String) -> Result<Option<Presence>, Status> {
    let node = node.filter(|node| !node.id.is_empty()).ok_or_else(|| {
        Status::invalid_argument("the first report must carry `node` with a non-empty `id`")
    })?;
    let introduction = Introduction {
        node_id: node.id,
        service: node.service,
        version: node.version,
        release: node.release,
        address,
        is_sidecar: true,
    };
    Ok(fleet.enter(introduction, StreamKind::Report))
}

fn note(presence: Option<&Presence>, report: ReportRequest) {
    let Some(presence) = presence else { return };
    if let Some(delivery) = report.delivery {
        let rejections = delivery.rejections.into_iter().take(MAX_REJECTIONS);
        presence.delivered(Delivery {
            accepted: Revision(delivery.accepted_revision),
            activated: Revision(delivery.activated_revision),
            rejections: rejections
                .map(|rejection| Rejection {
                    type_url: cut(rejection.type_url),
                    resource: cut(rejection.resource),
                    field_path: cut(rejection.field_path),
                    reason: cut(rejection.reason).into(),
                    revision: Revision(rejection.revision),
                })
                .collect(),
        });
    }
    if !report.counts.is_empty() {
        let counts = report.counts.into_iter().take(MAX_VERSIONS);
        presence.counted(
            counts
                .map(|count| VersionTraffic {
                    service: cut(count.service),
                    version: cut(count.version),
                    requests: count.requests,
                    failures: count.failures,
                    in_flight: count.in_flight,
                    dropped: 0,
                })
                .collect(),
        );
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
    text
}
