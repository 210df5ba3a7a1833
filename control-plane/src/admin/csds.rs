//! Envoy's `ClientStatusDiscoveryService` for the fleet: what each connected xDS client asked for,
//! holds and refuses, as far as its streams here tell.

use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::admin::v3::{ClientResourceStatus, UpdateFailureState};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::status::v3::client_config::GenericXdsConfig;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_server::ClientStatusDiscoveryService;
use envoy_types::pb::envoy::service::status::v3::{
    ClientConfig, ClientStatusRequest, ClientStatusResponse, ConfigStatus,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{NodeMatcher, StringMatcher};
use envoy_types::pb::google::protobuf::Any;
use futures_util::Stream;
use prost::Message as _;
use segue_control_plane_core::xds::{HeldResource, HeldType};
use segue_shared::shutdown::DrainSignal;
use segue_shared::xds_names::type_urls;
use tokio::sync::Semaphore;
use tonic::{Extensions, Request, Response, Status, Streaming};

use super::in_flight::InFlight;
use crate::access::{Call, Namespaces};
use crate::fleet::{Fleet, Holder};

/// Largest answer.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Most matchers of one request.
const MAX_MATCHERS: usize = 100;

/// See the module.
#[derive(Clone)]
pub struct ClientStatus {
    fleet: Fleet,
    in_flight: InFlight,
    /// Answers are large: one is made at a time.
    turn: Arc<Semaphore>,
    drain: DrainSignal,
}

impl ClientStatus {
    pub fn new(fleet: Fleet, in_flight: InFlight, drain: DrainSignal) -> Self {
        Self { fleet, in_flight, turn: Arc::new(Semaphore::new(1)), drain }
    }

    async fn answer(&self, request: ClientStatusRequest) -> Result<ClientStatusResponse, Status> {
        check(&request.node_matchers)?;
        let _turn = self
            .turn
            .acquire()
            .await
            .map_err(|_| Status::unavailable("the control plane is stopping"))?;
        let fleet = self.fleet.clone();
        let build = move || {
            let holders = fleet.holders(|node_id| names(&request.node_matchers, node_id));
            response(&holders, !request.exclude_resource_contents)
        };
        let built = tokio::task::spawn_blocking(build).await;
        built.map_err(|error| Status::internal(error.to_string()))?
    }
}

#[tonic::async_trait]
impl ClientStatusDiscoveryService for ClientStatus {
    async fn fetch_client_status(
        &self,
        request: Request<ClientStatusRequest>,
    ) -> Result<Response<ClientStatusResponse>, Status> {
        sees_everything(request.extensions())?;
        let _place = self.in_flight.call()?;
        self.answer(request.into_inner()).await.map(Response::new)
    }

    type StreamClientStatusStream =
        Pin<Box<dyn Stream<Item = Result<ClientStatusResponse, Status>> + Send>>;

    /// One answer for each request.
    async fn stream_client_status(
        &self,
        request: Request<Streaming<ClientStatusRequest>>,
    ) -> Result<Response<Self::StreamClientStatusStream>, Status> {
        sees_everything(request.extensions())?;
        let place = self.in_flight.stream()?;
        let (status, mut requests) = (self.clone(), request.into_inner());
        let answers = async_stream::try_stream! {
            let _place = place;
            while let Some(request) = status.next(&mut requests).await? {
                yield status.answer(request).await?;
            }
        };
        Ok(Response::new(Box::pin(answers)))
    }
}

impl ClientStatus {
    /// `None` at the end of the stream, and when the control plane drains.
    async fn next(
        &self,
        requests: &mut Streaming<ClientStatusRequest>,
    ) -> Result<Option<ClientStatusRequest>, Status> {
        tokio::select! {
            request = requests.message() => request,
            () = self.drain.cancelled() => Ok(None),
        }
    }
}

/// What a client holds is of all namespaces.
fn sees_everything(extensions: &Extensions) -> Result<(), Status> {
    if Call::of(extensions).caller.namespaces == Namespaces::All {
        return Ok(());
    }
    Err(Status::permission_denied("client status is for callers who may see all namespaces"))
}

/// Refuses what cannot be matched, rather than to match all or nothing.
fn check(matchers: &[NodeMatcher]) -> Result<(), Status> {
    if matchers.len() > MAX_MATCHERS {
        let told = format!("more than {MAX_MATCHERS} node_matchers");
        return Err(Status::invalid_argument(told));
    }
    for matcher in matchers {
        let pattern = matcher.node_id.as_ref().and_then(|id| id.match_pattern.as_ref());
        if !matcher.node_metadatas.is_empty()
            || matches!(pattern, None | Some(MatchPattern::SafeRegex(_) | MatchPattern::Custom(_)))
        {
            return Err(Status::invalid_argument(
                "node_matchers match by node_id: exact, prefix, suffix or contains",
            ));
        }
    }
    Ok(())
}

/// Whether any matcher names the node; none at all names every node.
fn names(matchers: &[NodeMatcher], node_id: &str) -> bool {
    matchers.is_empty()
        || matchers.iter().filter_map(|one| one.node_id.as_ref()).any(|one| matches(one, node_id))
}

fn matches(matcher: &StringMatcher, node_id: &str) -> bool {
    let fold = |text: &str| {
        if matcher.ignore_case { text.to_ascii_lowercase() } else { text.to_owned() }
    };
    let id = fold(node_id);
    match matcher.match_pattern.as_ref() {
        Some(MatchPattern::Exact(text)) => id == fold(text),
        Some(MatchPattern::Prefix(text)) => id.starts_with(&fold(text)),
        Some(MatchPattern::Suffix(text)) => id.ends_with(&fold(text)),
        Some(MatchPattern::Contains(text)) => id.contains(&fold(text)),
        _ => false,
    }
}

fn response(holders: &[Holder], contents: bool) -> Result<ClientStatusResponse, Status> {
    let (mut all, mut bytes) = (Vec::new(), 0);
    for holder in holders {
        let mut resources = Vec::new();
        for held in &holder.holding.types {
            for resource in of_type(held, contents) {
                bytes += resource.encoded_len();
                if bytes > MAX_ANSWER_BYTES {
                    return Err(too_large(contents));
                }
                resources.push(resource);
            }
        }
        all.push(ClientConfig {
            node: Some(Node {
                id: holder.node_id.to_string(),
                cluster: holder.service.to_string(),
                ..Node::default()
            }),
            generic_xds_configs: resources,
            ..ClientConfig::default()
        });
    }
    Ok(ClientStatusResponse { config: all })
}

fn too_large(contents: bool) -> Status {
    let or = if contents { ", or set exclude_resource_contents" } else { "" };
    Status::resource_exhausted(format!(
        "the answer is larger than {} MiB: name fewer nodes in node_matchers{or}",
        MAX_ANSWER_BYTES / 1024 / 1024
    ))
}

/// What a client holds of a type, then what it asked for and does not have.
fn of_type(held: &HeldType, contents: bool) -> impl Iterator<Item = GenericXdsConfig> {
    // Keys are nobody's to read here.
    let contents = contents && &*held.type_url != type_urls::SECRET;
    let known = held.resources().map(move |resource| known(&held.type_url, &resource, contents));
    let absent = |name: &Arc<str>, status, of_ours| GenericXdsConfig {
        type_url: held.type_url.to_string(),
        name: name.to_string(),
        client_status: i32::from(status),
        config_status: i32::from(of_ours),
        ..GenericXdsConfig::default()
    };
    let unknown = held
        .unknown()
        .map(move |name| absent(name, ClientResourceStatus::DoesNotExist, ConfigStatus::NotSent));
    let due = held
        .due()
        .map(move |name| absent(name, ClientResourceStatus::Requested, ConfigStatus::NotSent));
    known.chain(unknown).chain(due)
}

fn known(type_url: &str, held: &HeldResource<'_>, contents: bool) -> GenericXdsConfig {
    let body = || {
        let any = held.resource.filter(|_| contents)?.any();
        Any::decode(any).ok()
    };
    let mut told = GenericXdsConfig {
        type_url: type_url.to_owned(),
        name: held.name.to_string(),
        ..GenericXdsConfig::default()
    };
    match held.refusal {
        // What it had before and may still run on is not kept.
        _ if held.is_unanswered => {
            held.version.clone_into(&mut told.version_info);
            told.set_client_status(ClientResourceStatus::Requested);
            told.set_config_status(ConfigStatus::Stale);
        }
        None => {
            held.version.clone_into(&mut told.version_info);
            told.xds_config = body();
            told.set_client_status(ClientResourceStatus::Acked);
            told.set_config_status(ConfigStatus::Synced);
        }
        // What it had before and runs on with is not kept.
        Some(refusal) => {
            told.error_state = Some(UpdateFailureState {
                failed_configuration: body(),
                details: refusal.reason.to_string(),
                version_info: held.version.to_owned(),
                ..UpdateFailureState::default()
            });
            told.set_client_status(ClientResourceStatus::Nacked);
            told.set_config_status(ConfigStatus::Error);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_and_not_answered_is_not_told_as_acked() {
        let name: Arc<str> = "default/chat/v1".into();
        let told = |is_unanswered| {
            let (resource, refusal) = (None, None);
            let held = HeldResource { name: &name, version: "7", resource, refusal, is_unanswered };
            let told = known(type_urls::CLUSTER, &held, true);
            (told.client_status(), told.config_status())
        };
        assert_eq!(told(true), (ClientResourceStatus::Requested, ConfigStatus::Stale));
        assert_eq!(told(false), (ClientResourceStatus::Acked, ConfigStatus::Synced));
    }
}
