//! A server of the xDS port in this process, and sidecars that connect to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
};
use envoy_types::pb::google::rpc::Status as Fault;
use segue_control_plane::fleet::Fleet;
use segue_control_plane::metrics::StreamMetrics;
use segue_control_plane::xds::{Settings, SnapshotCache, listen, xds_services};
use segue_control_plane_core::compile::ResolvedEndpoints;
use segue_control_plane_core::config::mesh::{MeshConfig, Protocol, Service, Version};
use segue_shared::ids::Revision;
use segue_shared::shutdown::DrainSignal;
use segue_shared::xds_names::type_urls::CLUSTER;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// No answer of a test takes longer, on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub struct Server {
    pub address: SocketAddr,
    cache: SnapshotCache,
    pub metrics: StreamMetrics,
}

impl Server {
    /// A server of a mesh of so many services.
    pub fn with(services: usize, settings: Settings) -> Self {
        Self::on(listen(([127, 0, 0, 1], 0).into()).unwrap(), services, settings)
    }

    pub fn on(listener: TcpListener, services: usize, settings: Settings) -> Self {
        let address = listener.local_addr().unwrap();
        let (metrics, drain) = (StreamMetrics::default(), DrainSignal::new());
        let cache = SnapshotCache::new(metrics.clone());
        let services_of_port =
            xds_services(cache.clone(), Fleet::new(), settings, metrics.clone(), drain.clone());
        tokio::spawn(services_of_port.serve(listener, drain));
        let server = Self { address, cache, metrics };
        server.publish(1, services);
        server
    }

    pub fn publish(&self, revision: u64, services: usize) {
        let service = |i: usize| Service {
            name: format!("s{i:05}").parse().unwrap(),
            protocol: Protocol::Http,
            hosts: Vec::new(),
            port: 80,
            versions: vec![Version {
                label: "v1".parse().unwrap(),
                endpoints: vec![([127, 0, 0, 1], 9000).into()],
                localities: Vec::new(),
                dns: None,
            }],
            default_version: "v1".parse().unwrap(),
            depends_on: None,
        };
        let services =
            (0..services).map(service).map(|service| (service.name.clone(), Arc::new(service)));
        let mesh = MeshConfig {
            revision: Revision(revision),
            services: services.collect(),
            ..MeshConfig::default()
        };
        self.cache.publish(Arc::new(mesh), Arc::new(ResolvedEndpoints::default()));
    }

    pub fn endpoint(&self) -> Endpoint {
        Channel::from_shared(format!("http://{}", self.address)).unwrap()
    }

    pub async fn channel(&self) -> Channel {
        self.endpoint().connect().await.unwrap()
    }

    /// A sidecar on a connection of its own that asks for all clusters.
    pub async fn sidecar(&self, id: &str) -> Sidecar {
        let sidecar = Sidecar::open(self.channel().await).await.unwrap();
        sidecar.send(asks(id, CLUSTER)).await;
        sidecar
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&StreamMetrics) -> bool) {
        let wait = async {
            while !holds(&self.metrics) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let held = tokio::time::timeout(PATIENCE, wait).await;
        held.unwrap_or_else(|_| panic!("never: {what}: {:?}", self.metrics));
    }

    /// Waits until nothing of any client is left.
    pub async fn forgotten(&self) {
        let gone = |metrics: &StreamMetrics| {
            metrics.connections.get() == 0 && metrics.open("sidecar") == 0
        };
        self.until("everything is gone", gone).await;
    }
}

pub struct Sidecar {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Sidecar {
    pub async fn open(channel: Channel) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(16);
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let answer = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await?;
        Ok(Self { requests, responses: answer.into_inner() })
    }

    pub async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    pub async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let next = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        next.expect("no response").map(|response| response.expect("the stream ended"))
    }

    /// The next response, ACKed: how many resources it holds.
    pub async fn heard(&mut self) -> usize {
        let response = self.next().await.unwrap();
        self.send(answer(&response, None)).await;
        response.resources.len()
    }
}

pub fn asks(id: &str, type_url: &str) -> DeltaDiscoveryRequest {
    let node =
        Node { id: id.to_owned(), user_agent_name: "segue-sidecar".to_owned(), ..Node::default() };
    DeltaDiscoveryRequest {
        node: Some(node),
        type_url: type_url.to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

pub fn answer(response: &DeltaDiscoveryResponse, fault: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        error_detail: fault.map(|message| Fault {
            code: 3,
            message: message.to_owned(),
            ..Fault::default()
        }),
        ..DeltaDiscoveryRequest::default()
    }
}
