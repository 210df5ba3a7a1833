//! `segue.admin.v1.StatusService`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use prost::Message as _;
use segue_proto::admin::v1 as api;
use segue_proto::admin::v1::status_service_server::StatusService;
use segue_proto::admin::v1::wait_activated_response::Outcome;
use segue_shared::ids::{Revision, ServiceName};
use segue_shared::shutdown::DrainSignal;
use tokio::time::{Instant, sleep_until};
use tonic::{Request, Response, Status};

use super::answer;
use super::in_flight::{InFlight, Place};
use super::wait::{count, rejecting, rejection, told};
use crate::access::{Call, Caller, Namespaces};
use crate::fleet::{Fleet, Place as Position, SidecarStatus, Summary};
use crate::store::Store;

/// Sidecars a page.
const MOST_PAGE: u32 = 500;
/// A page ends early here: common clients take messages of 4 MiB.
const PAGE_BYTES: usize = 2 * 1024 * 1024;
const WAIT_DEFAULT: Duration = Duration::from_secs(30);
const WAIT_MOST: Duration = Duration::from_hours(1);
/// Least time between two answers of a wait: what happens meanwhile is told as one.
const WAIT_PACE: Duration = Duration::from_millis(50);

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
        let caller = Call::of(request.extensions()).caller;
        let asked = request.into_inner();
        let service = match asked.service.as_str() {
            "" => None,
            name => Some(
                name.parse::<ServiceName>()
                    .map_err(|error| Status::invalid_argument(error.to_string()))?
                    .to_string(),
            ),
        };
        let after = position(&asked.page_token)?;
        let most = match asked.page_size {
            0 => MOST_PAGE,
            size => size.min(MOST_PAGE),
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let (nodes, mut more) = self.fleet.page(service.as_deref(), after.as_ref(), most);
        let (mut sidecars, mut bytes, mut last) = (Vec::new(), 0, None);
        for node in nodes {
            if bytes >= PAGE_BYTES {
                more = true;
                break;
            }
            last = Some(node.place());
            if !sees(&caller, &node) {
                continue;
            }
            let told = sidecar(node);
            bytes += told.encoded_len();
            sidecars.push(told);
        }
        let next_page_token = last.filter(|_| more).as_ref().map(token).unwrap_or_default();
        let revision = *self.store.watch().borrow();
        let others = self.fleet.others();
        let others = others.iter().map(|other| elsewhere(other, service.as_deref(), revision));
        Ok(Response::new(api::ListSidecarsResponse {
            sidecars,
            revision: revision.0,
            next_page_token,
            known_since: Some(answer::time(self.fleet.known_since())),
            others: others.collect(),
        }))
    }

    type WaitActivatedStream =
        Pin<Box<dyn Stream<Item = Result<api::WaitActivatedResponse, Status>> + Send>>;

    async fn wait_activated(
        &self,
        request: Request<api::WaitActivatedRequest>,
    ) -> Result<Response<Self::WaitActivatedStream>, Status> {
        let place = self.in_flight.stream()?;
        let caller = Call::of(request.extensions()).caller;
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
        let deadline = Instant::now() + timeout;
        let wait = Wait { revision, deadline, store, fleet, caller };
        Ok(Response::new(Box::pin(wait.run(self.drain.clone(), place))))
    }
}

struct Wait {
    revision: Revision,
    deadline: Instant,
    store: Arc<dyn Store>,
    fleet: Fleet,
    caller: Arc<Caller>,
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
                let progress = self.fleet.progress(self.revision);
                let settles = progress.unsettled.and_then(|unsettled| unsettled.until);
                let wake = settles.map_or(self.deadline, |settles| settles.min(self.deadline));
                let mut now = told(self.revision, committed, progress);
                if !now.done && Instant::now() >= self.deadline {
                    now.done = true;
                    now.set_outcome(Outcome::Timeout);
                    now.rejecting = rejecting(self.fleet.in_the_way(self.revision));
                }
                hide(&mut now, &self.caller);
                let pace = Instant::now() + WAIT_PACE;
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
                    () = sleep_until(wake) => true,
                    () = drain.cancelled() => false,
                };
                if !go_on {
                    Err(Status::unavailable("the control plane is stopping"))?;
                }
                // Meanwhile nothing wakes this task, however many sidecars tell something.
                sleep_until(self.deadline.min(pace)).await;
            }
        }
    }
}

/// Whether a caller may see a node: by the namespace of its service. One without is seen by those
/// who see everything.
fn sees(caller: &Caller, node: &SidecarStatus) -> bool {
    let namespace = node.service.split_once('/').map_or("", |(namespace, _)| namespace);
    caller.sees(namespace)
}

/// Counts are told to everybody; names of nodes and what they refuse to those who see everything.
/// Others see in `ListSidecars` what the nodes of their services refuse.
fn hide(progress: &mut api::WaitActivatedResponse, caller: &Caller) {
    if caller.namespaces != Namespaces::All {
        progress.missing.clear();
        progress.rejecting.fill(api::wait_activated_response::Rejecting::default());
    }
}

/// What is connected to another control plane. Counts are told to everybody.
fn elsewhere(other: &Summary, service: Option<&str>, revision: Revision) -> api::OtherControlPlane {
    api::OtherControlPlane {
        name: other.name.clone(),
        sidecars: count(other.running(service, Revision::NONE)),
        activated: count(other.running(service, revision)),
        clients: count(other.connected_clients(service)),
        published_revision: other.published.0,
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
            in_flight: count.in_flight,
            dropped: count.dropped,
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
        received_revision: status.received_revision.0,
        accepted_revision: status.accepted_revision.0,
        activated_revision: status.activated_revision.0,
        traffic,
        reports: status.reports,
        stale: status.stale,
        behind_for: status.behind_for.and_then(|behind| behind.try_into().ok()),
    }
}

/// The lengths of the first two words say where they end.
fn token(at: &Position) -> String {
    let Position { service, version, node_id } = at;
    format!("{}.{}.{service}{version}{node_id}", service.len(), version.len())
}

/// `None` is the beginning.
fn position(token: &str) -> Result<Option<Position>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let read = || {
        let (service, rest) = token.split_once('.')?;
        let (version, words) = rest.split_once('.')?;
        let (service, rest) = words.split_at_checked(service.parse().ok()?)?;
        let (version, node_id) = rest.split_at_checked(version.parse().ok()?)?;
        Some(Position {
            service: service.to_owned(),
            version: version.to_owned(),
            node_id: node_id.to_owned(),
        })
    };
    let unknown = || Status::invalid_argument("the page token is not one of ours");
    read().map(Some).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_tokens_round_trip_whatever_the_words() {
        for words in [["default/chat", "v1", "chat-1"], ["", "", "7.8.ä"], ["3", "é", "\n"]] {
            let [service, version, node_id] = words.map(str::to_owned);
            let at = Position { service, version, node_id };
            assert_eq!(position(&token(&at)).unwrap(), Some(at));
        }
        for foreign in ["500", "1.", "9.9.short", "x.y.z", "1.0.é"] {
            assert!(position(foreign).is_err(), "{foreign}");
        }
    }
}
