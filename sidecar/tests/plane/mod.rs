//! A control plane that the test plays by hand, and a sidecar's client of it.
#![allow(dead_code, reason = "each test binary needs some of it")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::Any;
use segue_shared::shutdown::DrainSignal;
use segue_shared::xds_names::type_urls::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SNAPSHOT_MARK};
use segue_sidecar::activate::{DeliveryState, Warm};
use segue_sidecar::snapshot_handle::SnapshotHandle;
use segue_sidecar::xds::{XdsClient, XdsProtocol, XdsSettings, XdsStatus, spawn};
use segue_sidecar_core::snapshot::Cluster;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::sample::{assignment, cluster, listener, mark, routes};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// A stream that a client opened, in the hands of the test.
pub struct Opened<Q, R> {
    pub requests: Streaming<Q>,
    pub responses: mpsc::Sender<Result<R, Status>>,
}

pub type Delta = Opened<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;
pub type Sotw = Opened<DiscoveryRequest, DiscoveryResponse>;

/// Hands each stream to the test.
struct Ads {
    delta: mpsc::Sender<Delta>,
    sotw: mpsc::Sender<Sotw>,
    /// What callers must send as their authorization.
    authorization: Option<String>,
}

impl Ads {
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let sent = request.metadata().get("authorization").and_then(|it| it.to_str().ok());
        match &self.authorization {
            Some(wanted) if sent != Some(wanted) => Err(Status::unauthenticated("who are you?")),
            _ => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        self.admit(&request)?;
        let (responses, out) = mpsc::channel(16);
        let opened = Opened { requests: request.into_inner(), responses };
        self.sotw.send(opened).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(out)))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.admit(&request)?;
        let (responses, out) = mpsc::channel(16);
        let opened = Opened { requests: request.into_inner(), responses };
        self.delta.send(opened).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(out)))
    }
}

/// A control plane whose streams arrive here.
pub struct ControlPlane {
    pub address: SocketAddr,
    pub delta: mpsc::Receiver<Delta>,
    pub sotw: mpsc::Receiver<Sotw>,
}

pub async fn control_plane() -> ControlPlane {
    control_plane_on(Server::builder(), None).await
}

/// One that asks for an authorization, on a server that may speak TLS.
pub async fn control_plane_on(mut server: Server, authorization: Option<&str>) -> ControlPlane {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (delta_sender, delta) = mpsc::channel(4);
    let (sotw_sender, sotw) = mpsc::channel(4);
    let service = AggregatedDiscoveryServiceServer::new(Ads {
        delta: delta_sender,
        sotw: sotw_sender,
        authorization: authorization.map(ToOwned::to_owned),
    });
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(server.add_service(service).serve_with_incoming(incoming));
    ControlPlane { address, delta, sotw }
}

impl Delta {
    /// The next request of a type that is no bare ACK, or the next ACK or NACK.
    pub async fn request(&mut self, type_url: &str, answers: bool) -> DeltaDiscoveryRequest {
        timeout(PATIENCE, async {
            loop {
                let request = self.requests.message().await.unwrap().unwrap();
                if request.type_url == type_url && request.response_nonce.is_empty() != answers {
                    return request;
                }
            }
        })
        .await
        .unwrap()
    }

    pub async fn send(&self, type_url: &str, resources: Vec<(&str, &str, Any)>) {
        let resource = |(name, version, any): (&str, &str, Any)| Resource {
            name: name.to_owned(),
            version: version.to_owned(),
            resource: Some(any),
            ..Default::default()
        };
        let response = DeltaDiscoveryResponse {
            type_url: type_url.to_owned(),
            resources: resources.into_iter().map(resource).collect(),
            nonce: "1".to_owned(),
            ..Default::default()
        };
        self.responses.send(Ok(response)).await.unwrap();
    }

    /// Chat leads to one cluster, as version `version` of everything.
    pub async fn send_mesh(&self, to: &str, version: &str) {
        self.send(CLUSTER, vec![(to, version, cluster(to))]).await;
        self.send(ENDPOINT, vec![(to, version, assignment(to, 9))]).await;
        self.send(LISTENER, vec![("outbound", "1", listener())]).await;
        self.send(ROUTE, vec![("outbound", version, routes(to))]).await;
    }

    pub async fn send_mark(&self, revision: u64) {
        self.send(SNAPSHOT_MARK, vec![("snapshot", &revision.to_string(), mark(revision))]).await;
    }
}

/// Takes what it was asked to warm, and what served at that time.
#[derive(Clone)]
struct Recorder {
    handle: SnapshotHandle,
    warmed: Arc<Mutex<Vec<String>>>,
}

impl Warm for Recorder {
    async fn warm(&self, cluster: &Arc<Cluster>) -> bool {
        let served = self.handle.load().clusters.index_of(&cluster.name).is_some();
        self.warmed.lock().unwrap().push(format!("{} served={served}", cluster.name));
        // A dead endpoint does not hold up the swap.
        false
    }
}

pub struct Sidecar {
    pub handle: SnapshotHandle,
    pub warmed: Arc<Mutex<Vec<String>>>,
    pub client: XdsClient,
    join: JoinHandle<()>,
    drain: DrainSignal,
}

pub async fn sidecar(
    address: SocketAddr,
    protocol: XdsProtocol,
    data_dir: Option<&Path>,
) -> Sidecar {
    sidecar_with(XdsSettings {
        protocol,
        data_dir: data_dir.map(Path::to_owned),
        ..settings(&format!("http://{address}"))
    })
    .await
}

/// Settings of a sidecar that follows the control plane at a URL.
pub fn settings(url: &str) -> XdsSettings {
    XdsSettings {
        service: "default/front".to_owned(),
        version: "v1".to_owned(),
        mark_timeout: Duration::from_millis(100),
        ..XdsSettings::new(url, "node-1")
    }
}

pub async fn sidecar_with(settings: XdsSettings) -> Sidecar {
    let handle = SnapshotHandle::new();
    let warmed = Arc::default();
    let drain = DrainSignal::new();
    let warm = Recorder { handle: handle.clone(), warmed: Arc::clone(&warmed) };
    let (client, join) = spawn(settings, handle.clone(), warm, drain.clone()).await;
    Sidecar { handle, warmed, client, join, drain }
}

impl Sidecar {
    pub async fn delivery(&mut self, until: impl Fn(&DeliveryState) -> bool) -> DeliveryState {
        let changed = self.client.delivery.wait_for(until);
        timeout(PATIENCE, changed).await.expect("the delivery state comes").unwrap().clone()
    }

    pub async fn status(&mut self, until: impl Fn(&XdsStatus) -> bool) -> XdsStatus {
        let changed = self.client.status.wait_for(until);
        timeout(PATIENCE, changed).await.expect("the status comes").unwrap().clone()
    }

    pub async fn swapped_to(&self, cluster: &str) {
        let mut swaps = self.handle.swaps();
        let serves = async {
            while self.handle.load().clusters.index_of(cluster).is_none() {
                swaps.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, serves).await.expect("the cluster serves");
    }

    pub async fn stop(self) {
        self.drain.cancel();
        timeout(PATIENCE, self.join).await.unwrap().unwrap();
    }
}

pub async fn opened<T>(streams: &mut mpsc::Receiver<T>) -> T {
    timeout(PATIENCE, streams.recv()).await.expect("the client opens a stream").unwrap()
}
