//! Tells the control plane what runs here: revisions at once, counts while they change.

use std::sync::Arc;
use std::time::Duration;

use segue_proto::report::v1::report_service_client::ReportServiceClient;
use segue_proto::report::v1::{Delivery, Node, Rejection, ReportRequest, VersionCounts};
use segue_shared::backoff::Backoff;
use segue_shared::shutdown::DrainSignal;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tracing::{debug, info};

use crate::activate::DeliveryState;
use crate::control_plane::ControlPlanes;
use crate::outcome::Counters;

/// Least time between reports of counts until the control plane says otherwise.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// Reports that may wait for a slow control plane; further ones are left out, since each one tells
/// all that those before did.
const REPORTS_WAITING: usize = 2;
/// Resources named in one report.
const MOST_REJECTIONS: usize = 100;
/// A control plane of other make has no report service: asked again this rarely.
const FOREIGN_PAUSE: Duration = Duration::from_mins(5);

/// What is reported, and where to.
pub struct Report {
    pub control_planes: ControlPlanes,
    /// The place of the one that the configuration comes from, which reports go to as well.
    pub following: watch::Receiver<usize>,
    pub node: Node,
    pub delivery: watch::Receiver<DeliveryState>,
    pub counters: Arc<Counters>,
}

/// How a stream of reports ended, where it did not fail.
#[derive(Debug)]
enum Ended {
    /// The configuration comes from another control plane now.
    Moved,
    Over,
}

impl Ended {
    fn moved(changed: &Result<(), watch::error::RecvError>) -> Self {
        if changed.is_ok() { Self::Moved } else { Self::Over }
    }
}

impl Report {
    /// Reports until the drain begins, and once more then.
    pub async fn run(mut self, drain: DrainSignal, draw: impl Fn() -> f64) {
        let mut backoff = Backoff::default();
        loop {
            let ended = self.stream(&drain, &mut backoff).await;
            if drain.is_cancelled() {
                return;
            }
            let pause = match &ended {
                Ok(Ended::Moved) => Duration::ZERO,
                Err(status) if status.code() == Code::Unimplemented => {
                    info!("the control plane takes no reports");
                    FOREIGN_PAUSE
                }
                _ => backoff.next_pause(draw()),
            };
            debug!(?ended, ?pause, "report stream ended");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                moved = self.following.changed() => if moved.is_err() { return },
                () = drain.cancelled() => return,
            }
        }
    }

    async fn stream(
        &mut self,
        drain: &DrainSignal,
        backoff: &mut Backoff,
    ) -> Result<Ended, Status> {
        let place = *self.following.borrow_and_update();
        let plane = self.control_planes.dial(place).await;
        let plane = plane.map_err(|error| Status::failed_precondition(error.to_string()))?;
        let (reports, waiting) = mpsc::channel(REPORTS_WAITING);
        let mut sent = self.report(true);
        // The channel is new and has room.
        let _ = reports.try_send(sent.clone());
        let mut client = ReportServiceClient::with_interceptor(plane.channel, plane.bearer);
        let opening = client.report(ReceiverStream::new(waiting));
        let mut answers = tokio::select! {
            opened = opening => opened?.into_inner(),
            moved = self.following.changed() => return Ok(Ended::moved(&moved)),
            () = drain.cancelled() => return Ok(Ended::Over),
        };
        backoff.reset();
        let mut ticks = ticks(DEFAULT_INTERVAL);
        loop {
            tokio::select! {
                changed = self.delivery.changed() => {
                    if changed.is_err() {
                        return Ok(Ended::Over);
                    }
                }
                moved = self.following.changed() => return Ok(Ended::moved(&moved)),
                _ = ticks.tick() => {}
                answer = answers.message() => match answer? {
                    Some(answer) => {
                        if let Some(interval) = answer.interval {
                            let seconds = u64::try_from(interval.seconds).unwrap_or_default();
                            let nanos = u32::try_from(interval.nanos).unwrap_or_default();
                            let wanted = Duration::new(seconds, nanos).max(SHORTEST_INTERVAL);
                            ticks = self::ticks(wanted);
                        }
                        continue;
                    }
                    None => return Ok(Ended::Over),
                },
                () = drain.cancelled() => {
                    let _ = reports.try_send(self.report(false));
                    drop(reports);
                    // Until the control plane has read it, or does not want to.
                    let _ = tokio::time::timeout(DEFAULT_INTERVAL, answers.message()).await;
                    return Ok(Ended::Over);
                }
            }
            let report = self.report(false);
            let news = (&report.delivery, &report.counts) != (&sent.delivery, &sent.counts);
            if news && reports.try_send(report.clone()).is_ok() {
                sent = report;
            }
        }
    }

    fn report(&mut self, first: bool) -> ReportRequest {
        let state = self.delivery.borrow_and_update().clone();
        let rejections = state
            .rejections
            .iter()
            .take(MOST_REJECTIONS)
            .map(|rejection| Rejection {
                type_url: rejection.reject.type_url.clone(),
                resource: rejection.reject.resource.clone(),
                field_path: rejection.reject.field_path.clone(),
                reason: rejection.reject.reason.clone(),
                revision: rejection.revision.map_or(0, |revision| revision.0),
            })
            .collect();
        let counts = self.counters.all().into_iter().filter_map(|cluster| {
            let (service, version) = cluster.version.as_ref()?;
            let totals = cluster.totals();
            Some(VersionCounts {
                service: service.to_string(),
                version: version.to_string(),
                requests: totals.requests,
                failures: totals.failures,
                in_flight: totals.in_flight,
            })
        });
        ReportRequest {
            node: first.then(|| self.node.clone()),
            delivery: Some(Delivery {
                accepted_revision: state.accepted_revision.0,
                activated_revision: state.activated_revision.0,
                rejections,
            }),
            counts: counts.collect(),
        }
    }
}

fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
