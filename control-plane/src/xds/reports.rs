//! The report service: sidecars tell which revision they run, and what they sent where.

use std::pin::Pin;

use futures_util::Stream;
use segue_proto::report::v1::report_service_server::ReportService;
use segue_proto::report::v1::{ReportRequest, ReportResponse};
use tonic::{Request, Response, Status, Streaming};

use super::stream::Ads;
use super::uploads::Uploads;
use crate::reports::intake::{enter, note};

/// The report service.
#[derive(Debug)]
pub struct Reports {
    ads: Ads,
}

impl Reports {
    pub(super) fn new(ads: Ads) -> Self {
        Self { ads }
    }
}

#[tonic::async_trait]
impl ReportService for Reports {
    type ReportStream = Pin<Box<dyn Stream<Item = Result<ReportResponse, Status>> + Send>>;

    async fn report(
        &self,
        request: Request<Streaming<ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let mut reports = Uploads::open(&self.ads, request)?;
        let fleet = self.ads.fleet.clone();
        let interval = fleet.settings().report_interval;
        // The stream is its own task: nothing is queued between the sidecar and the registry.
        let answers = async_stream::try_stream! {
            yield ReportResponse { interval: prost_types::Duration::try_from(interval).ok() };
            if let Some(first) = reports.first().await? {
                let service = first.node.as_ref().and_then(|node| node.service.parse().ok());
                reports.may_be(service.as_ref())?;
                let address = reports.peer().map(|at| at.to_string()).unwrap_or_default();
                let presence = enter(&fleet, first.node.clone(), address)?;
                note(presence.as_ref(), first);
                while let Some(report) = reports.next().await? {
                    note(presence.as_ref(), report);
                }
            }
        };
        Ok(Response::new(Box::pin(answers)))
    }
}
