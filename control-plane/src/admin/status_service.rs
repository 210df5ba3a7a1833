//! `segue.admin.v1.StatusService`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use segue_proto::admin::v1 as api;
use segue_proto::admin::v1::status_service_server::StatusService;
use segue_proto::admin::v1::wait_activated_response::Outcome;
use segue_shared::ids::{Revision, ServiceName};
use segue_shared::shutdown::DrainSignal;
use tokio::time::{Instant, sleep_until};
use tonic::{Request, Response, Status};

use super::answer;
use super::in_flight::{InFlight, Place};
use super::wait::{in_the_way, progress, rejection};
use crate::fleet::{Fleet, SidecarStatus};
use crate::store::Store;

const WAIT_DEFAULT: Duration = Duration::from_secs(30);
const WAIT_MOST: Duration = Duration::from_hours(1);

/// See the module.
pub struct FleetStatus {
    pub store: Arc<dyn Store>,
    pub fleet: Fleet,
    pub in_flight: InFlight,
    pub drain: DrainSignal,
}

#[tonic::async_trait]
impl StatusService for FleetStatus {
    async fn list_sidecars(
        &self,
        request: Request<api::ListSidecarsRequest>,
    ) -> Result<Response<api::ListSidecarsResponse>, Status> {
        let _place = self.in_flight.call()?;
        let asked = request.into_inner().service;
        let service = match asked.as_str() {
            "" => None,
            name => Some(
                name.parse::<ServiceName>()
                    .map_err(|error| Status::invalid_argument(error.to_string()))?
                    .to_string(),
            ),
        };
        let sidecars = self
            .fleet
            .sidecars()
            .into_iter()
            .filter(|node| service.as_ref().is_none_or(|service| *service == node.service))
            .map(sidecar)
            .collect();
        let revision = self.store.watch().borrow().0;
        Ok(Response::new(api::ListSidecarsResponse { sidecars, revision }))
    }

    type WaitActivatedStream =
        Pin<Box<dyn Stream<Item = Result<api::WaitActivatedResponse, Status>> + Send>>;

    async fn wait_activated(
        &self,
        request: Request<api::WaitActivatedRequest>,
    ) -> Result<Response<Self::WaitActivatedStream>, Status> {
        let place = self.in_flight.stream()?;
        let request = request.into_inner();
        let timeout = match request.timeout {
            None => WAIT_DEFAULT,
            Some(asked) => Duration::try_from(asked)
                .ok()
                .filter(|asked| *asked <= WAIT_MOST)
                .ok_or_else(|| Status::invalid_argument("a timeout is from 0s to 1h"))?,
        };
        let newest = *self.store.watch().borrow();
        let revision = if request.revision == 0 { newest } else { Revision(request.revision) };
        let (store, fleet) = (Arc::clone(&self.store), self.fleet.clone());
        let wait = Wait { revision, deadline: Instant::now() + timeout, store, fleet };
        Ok(Response::new(Box::pin(wait.run(self.drain.clone(), place))))
    }
}

struct Wait {
    revision: Revision,
    deadline: Instant,
    store: Arc<dyn Store>,
    fleet: Fleet,
}

impl Wait {
    fn run(
        self,
        drain: DrainSignal,
        place: Place,
    ) -> impl Stream<Item = Result<api::WaitActivatedResponse, Status>> + Send {
        async_stream::try_stream! {
            let _place = place;
            let (mut changed, mut newest) = (self.fleet.changed(), self.store.watch());
            let mut last = None;
            loop {
                changed.mark_unchanged();
                let committed = *newest.borrow_and_update();
                let sidecars = self.fleet.sidecars();
                let mut now = progress(self.revision, committed, &sidecars);
                if !now.done && Instant::now() >= self.deadline {
                    now.done = true;
                    now.set_outcome(Outcome::Timeout);
                    now.rejecting = in_the_way(self.revision, &sidecars);
                }
                let done = now.done;
                if last.as_ref() != Some(&now) {
                    yield now.clone();
                }
                last = Some(now);
                if done {
                    return;
                }
                let go_on = tokio::select! {
                    changed = changed.changed() => changed.is_ok(),
                    changed = newest.changed() => changed.is_ok(),
                    () = sleep_until(self.deadline) => true,
                    () = drain.cancelled() => false,
                };
                if !go_on {
                    Err(Status::unavailable("the control plane is stopping"))?;
                }
            }
        }
    }
}

fn sidecar(status: SidecarStatus) -> api::Sidecar {
    let traffic = status
        .traffic
        .into_iter()
        .map(|count| api::VersionTraffic {
            service: count.service,
            version: count.version,
            requests: count.requests,
            failures: count.failures,
        })
        .collect();
    api::Sidecar {
        rejections: status.rejections.iter().map(rejection).collect(),
        node_id: status.node_id,
        service: status.service,
        version: status.version,
        release: status.release,
        address: status.address,
        connected: status.connected,
        since: Some(answer::time(status.since)),
        accepted_revision: status.accepted_revision.0,
        activated_revision: status.activated_revision.0,
        traffic,
        reports: status.reports,
        stale: false,
        behind_for: None,
    }
}
