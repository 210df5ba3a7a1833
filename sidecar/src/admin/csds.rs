//! Envoy's client status service (CSDS): every xDS resource and where it stands. `grpcurl -plaintext
//! 127.0.0.1:16000 envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus` with the
//! service's `.proto`, or any tool for Envoy and gRPC that reads it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use envoy_types::pb::envoy::admin::v3::{ClientResourceStatus, UpdateFailureState};
use envoy_types::pb::envoy::service::status::v3::client_config::GenericXdsConfig;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_server::{
    ClientStatusDiscoveryService, ClientStatusDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::status::v3::{
    ClientConfig, ClientStatusRequest, ClientStatusResponse,
};
use envoy_types::pb::google::protobuf::{Any, Timestamp};
use futures_util::{Stream, StreamExt as _};
use segue_shared::xds_names::type_urls;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use crate::xds::{ResourceState, ResourceView, XdsViews};

/// A request has no more than an id in it.
const MAX_REQUEST_BYTES: usize = 64 << 10;
/// A whole state of the world, as the client itself takes it.
const MAX_RESPONSE_BYTES: usize = 64 << 20;
/// Answers made at one time, each a copy of all resources; the next ones wait.
const ANSWERS_AT_ONCE: usize = 2;

/// Service of one client.
#[derive(Clone)]
pub struct ClientStatus {
    views: XdsViews,
    answering: Arc<Semaphore>,
}

/// The service on the wire.
pub type ClientStatusServer = ClientStatusDiscoveryServiceServer<ClientStatus>;

/// The service with its limits.
pub fn server(views: XdsViews) -> ClientStatusServer {
    let status = ClientStatus { views, answering: Arc::new(Semaphore::new(ANSWERS_AT_ONCE)) };
    ClientStatusDiscoveryServiceServer::new(status)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES)
}

#[tonic::async_trait]
impl ClientStatusDiscoveryService for ClientStatus {
    type StreamClientStatusStream =
        Pin<Box<dyn Stream<Item = Result<ClientStatusResponse, Status>> + Send>>;

    /// One answer a request.
    async fn stream_client_status(
        &self,
        request: Request<Streaming<ClientStatusRequest>>,
    ) -> Result<Response<Self::StreamClientStatusStream>, Status> {
        let client = self.clone();
        let answers = request.into_inner().then(move |request| {
            let client = client.clone();
            async move { client.answer(&request?).await }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fetch_client_status(
        &self,
        request: Request<ClientStatusRequest>,
    ) -> Result<Response<ClientStatusResponse>, Status> {
        Ok(Response::new(self.answer(request.get_ref()).await?))
    }
}

impl ClientStatus {
    async fn answer(&self, request: &ClientStatusRequest) -> Result<ClientStatusResponse, Status> {
        if !request.node_matchers.is_empty() {
            let reason = "node_matchers choose among clients; this is one client";
            return Err(Status::invalid_argument(reason));
        }
        let gone = || Status::unavailable("the sidecar ends");
        let _turn = self.answering.acquire().await.map_err(|_| gone())?;
        let view = self.views.ask().await.ok_or_else(gone)?;
        let with_bytes = !request.exclude_resource_contents;
        let client = ClientConfig {
            generic_xds_configs: view
                .resources(with_bytes)
                .map(|resource| generic(resource, with_bytes))
                .collect(),
            node: Some(view.node),
            ..Default::default()
        };
        Ok(ClientStatusResponse { config: vec![client] })
    }
}

fn generic(resource: ResourceView, with_bytes: bool) -> GenericXdsConfig {
    let ResourceView { type_url, name, good, state } = resource;
    let (status, error_state) = match state {
        ResourceState::Requested => (ClientResourceStatus::Requested, None),
        ResourceState::Absent => (ClientResourceStatus::DoesNotExist, None),
        ResourceState::Accepted => (ClientResourceStatus::Acked, None),
        // Without what was refused: it is not kept, and may hold keys.
        ResourceState::Refused { reason, at } => {
            let last_update_attempt = timestamp(at);
            let failure =
                UpdateFailureState { details: reason, last_update_attempt, ..Default::default() };
            (ClientResourceStatus::Nacked, Some(failure))
        }
    };
    let (version_info, xds_config, last_updated) = match good {
        Some((version, value, came)) => {
            // Keys stay here.
            let shown = with_bytes && type_url != type_urls::SECRET;
            let any = shown.then(|| Any { type_url: type_url.to_owned(), value });
            (version, any, came.and_then(timestamp))
        }
        None => (String::new(), None, None),
    };
    GenericXdsConfig {
        type_url: type_url.to_owned(),
        name,
        version_info,
        xds_config,
        last_updated,
        client_status: status as i32,
        error_state,
        ..Default::default()
    }
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let seconds = i64::try_from(since.as_secs()).ok()?;
    Some(Timestamp { seconds, nanos: i32::try_from(since.subsec_nanos()).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(type_url: &'static str, state: ResourceState, with_bytes: bool) -> GenericXdsConfig {
        let good = Some(("7".to_owned(), b"body".to_vec(), Some(SystemTime::now())));
        generic(ResourceView { type_url, name: "a".to_owned(), good, state }, with_bytes)
    }

    #[test]
    fn a_refused_resource_shows_the_good_one_and_the_reason() {
        let state = ResourceState::Refused { reason: "because".to_owned(), at: SystemTime::now() };
        let config = shown(type_urls::CLUSTER, state, true);
        assert_eq!(config.client_status, ClientResourceStatus::Nacked as i32);
        assert_eq!(config.version_info, "7");
        assert_eq!(config.xds_config.unwrap().value, b"body");
        let error = config.error_state.unwrap();
        assert_eq!((error.details.as_str(), error.failed_configuration), ("because", None));
        assert!(error.last_update_attempt.is_some());
    }

    #[test]
    fn contents_are_left_out_where_asked_and_keys_always() {
        let accepted = || ResourceState::Accepted;
        assert!(shown(type_urls::CLUSTER, accepted(), true).xds_config.is_some());
        assert!(shown(type_urls::CLUSTER, accepted(), false).xds_config.is_none());
        assert!(shown(type_urls::SECRET, accepted(), true).xds_config.is_none());
    }
}
