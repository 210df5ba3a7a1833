//! The stream to the control plane, in either variant of xDS.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::envoy::config::core::v3::{Locality as PbLocality, Node};
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use segue_sidecar_core::reject::Reject;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::delta::DeltaStream;
use super::inbox::Inbox;
use super::settings::{XdsProtocol, XdsSettings};
use super::sotw::SotwStream;
use crate::control_plane::Dialed;
use crate::tls::Mesh;

/// Requests that wait for the control plane to read them. Each response makes at most four.
const REQUESTS_WAITING: usize = 64;
/// Time for the control plane to read on when that many wait.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// A whole state of the world may come in one message.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// An open stream.
pub(crate) enum Stream {
    Delta {
        state: DeltaStream,
        requests: mpsc::Sender<DeltaDiscoveryRequest>,
        responses: Streaming<DeltaDiscoveryResponse>,
    },
    Sotw {
        state: SotwStream,
        requests: mpsc::Sender<DiscoveryRequest>,
        responses: Streaming<DiscoveryResponse>,
    },
}

/// State and first requests of a stream.
enum Opening {
    Delta((DeltaStream, Vec<DeltaDiscoveryRequest>)),
    Sotw((SotwStream, Vec<DiscoveryRequest>)),
}

/// A response of either variant.
pub(crate) enum Response {
    Delta(DeltaDiscoveryResponse),
    Sotw(DiscoveryResponse),
}

impl Stream {
    /// Opens a stream that asks for what is wanted now. The future may wait for as long as the
    /// control plane does not answer.
    pub fn open(
        plane: Dialed,
        settings: &XdsSettings,
        inbox: &Inbox,
        ask_own: bool,
    ) -> impl Future<Output = Result<Self, Status>> + Send + use<> {
        let mut client =
            AggregatedDiscoveryServiceClient::with_interceptor(plane.channel, plane.bearer)
                .max_decoding_message_size(MAX_MESSAGE_BYTES);
        let node = node(settings);
        let opening = match settings.protocol {
            XdsProtocol::Delta => Opening::Delta(DeltaStream::open(node, inbox, ask_own)),
            XdsProtocol::Sotw => Opening::Sotw(SotwStream::open(node, inbox, ask_own)),
        };
        async move {
            match opening {
                Opening::Delta((state, first)) => {
                    let (requests, waiting) = queue(first).await?;
                    let responses = client.delta_aggregated_resources(waiting).await?.into_inner();
                    Ok(Self::Delta { state, requests, responses })
                }
                Opening::Sotw((state, first)) => {
                    let (requests, waiting) = queue(first).await?;
                    let responses = client.stream_aggregated_resources(waiting).await?.into_inner();
                    Ok(Self::Sotw { state, requests, responses })
                }
            }
        }
    }

    /// The next response. May be dropped and called again.
    pub async fn next(&mut self) -> Result<Response, Status> {
        let ended = || Status::unavailable("the control plane ended the stream");
        match self {
            Self::Delta { responses, .. } => {
                responses.message().await?.map(Response::Delta).ok_or_else(ended)
            }
            Self::Sotw { responses, .. } => {
                responses.message().await?.map(Response::Sotw).ok_or_else(ended)
            }
        }
    }

    /// Asks for all that an answer would have told how to ask for.
    pub async fn unanswered(&mut self, inbox: &mut Inbox) -> Result<(), Status> {
        match self {
            Self::Delta { state, requests, .. } => send(requests, state.unanswered(inbox)).await,
            Self::Sotw { state, requests, .. } => send(requests, state.unanswered(inbox)).await,
        }
    }

    /// Gives a response to the inbox and sends what follows from it. What `mesh` is to believe it
    /// believes before that is acknowledged.
    pub async fn take(
        &mut self,
        response: Response,
        inbox: &mut Inbox,
        mesh: &Mesh,
    ) -> Result<Vec<Reject>, Status> {
        match (self, response) {
            (Self::Delta { state, requests, .. }, Response::Delta(response)) => {
                let (follow, rejects) = state.receive(response, inbox);
                believe(inbox, mesh);
                send(requests, follow).await?;
                Ok(rejects)
            }
            (Self::Sotw { state, requests, .. }, Response::Sotw(response)) => {
                let (follow, rejects) = state.receive(response, inbox);
                believe(inbox, mesh);
                send(requests, follow).await?;
                Ok(rejects)
            }
            _ => Err(Status::internal("a response of the other variant of xDS")),
        }
    }
}

fn believe(inbox: &mut Inbox, mesh: &Mesh) {
    if let Some(pem) = inbox.new_authorities() {
        mesh.believe(pem);
    }
}

async fn queue<T>(first: Vec<T>) -> Result<(mpsc::Sender<T>, ReceiverStream<T>), Status> {
    let (requests, waiting) = mpsc::channel(REQUESTS_WAITING);
    send(&requests, first).await?;
    Ok((requests, ReceiverStream::new(waiting)))
}

async fn send<T>(requests: &mpsc::Sender<T>, all: Vec<T>) -> Result<(), Status> {
    for request in all {
        requests
            .send_timeout(request, SEND_TIMEOUT)
            .await
            .map_err(|_| Status::unavailable("the control plane does not read requests"))?;
    }
    Ok(())
}

/// Who asks.
pub(crate) fn node(settings: &XdsSettings) -> Node {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = HashMap::from([
        ("service".to_owned(), text(&settings.service)),
        ("version".to_owned(), text(&settings.version)),
    ]);
    Node {
        id: settings.node_id.clone(),
        cluster: settings.service.clone(),
        metadata: Some(Struct { fields }),
        locality: (!settings.locality.is_unknown()).then(|| PbLocality {
            region: settings.locality.region.to_string(),
            zone: settings.locality.zone.to_string(),
            sub_zone: settings.locality.sub_zone.to_string(),
        }),
        user_agent_name: "segue-sidecar".to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(
            env!("CARGO_PKG_VERSION").to_owned(),
        )),
        ..Default::default()
    }
}
