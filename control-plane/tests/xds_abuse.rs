//! The xDS port under clients that break, hurry, stand still or talk nonsense: the others notice
//! nothing, and nothing of them is left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

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
use segue_shared::xds_names::type_urls::{CLUSTER, LISTENER};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// No answer of a test takes longer, on a machine that does much else.
const PATIENCE: Duration = Duration::from_mins(1);

struct Server {
    address: SocketAddr,
    cache: SnapshotCache,
    metrics: StreamMetrics,
}

impl Server {
    /// A server of a mesh of so many services.
    fn with(services: usize, settings: Settings) -> Self {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
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

    fn publish(&self, revision: u64, services: usize) {
        let service = |i: usize| Service {
            name: format!("s{i:05}").parse().unwrap(),
            protocol: Protocol::Http,
            hosts: Vec::new(),
            port: 80,
            versions: vec![Version {
                label: "v1".parse().unwrap(),
                endpoints: vec![([127, 0, 0, 1], 9000).into()],
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

    fn endpoint(&self) -> Endpoint {
        Channel::from_shared(format!("http://{}", self.address)).unwrap()
    }

    async fn channel(&self) -> Channel {
        self.endpoint().connect().await.unwrap()
    }

    /// A sidecar on a connection of its own that asks for all clusters.
    async fn sidecar(&self, id: &str) -> Sidecar {
        let sidecar = Sidecar::open(self.channel().await).await.unwrap();
        sidecar.send(asks(id, CLUSTER)).await;
        sidecar
    }

    async fn until(&self, what: &str, holds: impl Fn(&StreamMetrics) -> bool) {
        let wait = async {
            while !holds(&self.metrics) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let held = tokio::time::timeout(PATIENCE, wait).await;
        held.unwrap_or_else(|_| panic!("never: {what}: {:?}", self.metrics));
    }

    /// Waits until nothing of any client is left.
    async fn forgotten(&self) {
        let gone = |metrics: &StreamMetrics| {
            metrics.connections.get() == 0 && metrics.open("sidecar") == 0
        };
        self.until("everything is gone", gone).await;
    }
}

struct Sidecar {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Sidecar {
    async fn open(channel: Channel) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(16);
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let answer = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await?;
        Ok(Self { requests, responses: answer.into_inner() })
    }

    async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let next = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        next.expect("no response").map(|response| response.expect("the stream ended"))
    }

    /// The next response, ACKed: how many resources it holds.
    async fn heard(&mut self) -> usize {
        let response = self.next().await.unwrap();
        self.send(answer(&response, None)).await;
        response.resources.len()
    }
}

fn asks(id: &str, type_url: &str) -> DeltaDiscoveryRequest {
    let node =
        Node { id: id.to_owned(), user_agent_name: "segue-sidecar".to_owned(), ..Node::default() };
    DeltaDiscoveryRequest {
        node: Some(node),
        type_url: type_url.to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn answer(response: &DeltaDiscoveryResponse, fault: Option<&str>) -> DeltaDiscoveryRequest {
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

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_and_holds_up_nobody() {
    let settings = Settings { xds_max_pushes: 1, xds_stalled_seconds: 4, ..Settings::default() };
    let server = Server::with(2000, settings);
    // Its windows hold a part of the first response, and it never makes room for more.
    let small = server.endpoint().initial_stream_window_size(65_535);
    let frozen = Sidecar::open(small.connect().await.unwrap()).await.unwrap();
    frozen.send(asks("frozen", CLUSTER)).await;
    server.until("it stands still", |metrics| metrics.stalled.get() == 1).await;
    // The only place for large responses is free again.
    let mut other = server.sidecar("other").await;
    assert_eq!(other.heard().await, 2000);
    server.until("it is cut", |metrics| metrics.endings("stalled") == 1).await;
    server.until("it is gone", |metrics| metrics.open("sidecar") == 1).await;
    server.publish(2, 2001);
    assert_eq!(other.heard().await, 1, "the other one goes on");
    drop((frozen, other));
    server.forgotten().await;
}

#[tokio::test]
async fn a_client_that_refuses_for_ever_is_sent_nothing_twice() {
    let server = Server::with(3, Settings::default());
    let mut grumpy = server.sidecar("grumpy").await;
    let response = grumpy.next().await.unwrap();
    for _ in 0..1200 {
        grumpy.send(answer(&response, Some("I do not like it"))).await;
    }
    server.until("all are read", |metrics| metrics.nacks(CLUSTER) == 1200).await;
    assert!(server.metrics.delayed_requests.get() > 0, "the last ones late");
    assert_eq!(server.metrics.pushes(CLUSTER), 1);
    let mut other = server.sidecar("other").await;
    assert_eq!(other.heard().await, 3);
    server.publish(2, 4);
    assert_eq!((grumpy.heard().await, other.heard().await), (1, 1), "only what changed");
    drop((grumpy, other));
    server.forgotten().await;
}

#[tokio::test]
async fn of_one_sidecar_only_the_newest_stream_lives() {
    let server = Server::with(3, Settings::default());
    let mut other = server.sidecar("other").await;
    assert_eq!(other.heard().await, 3);
    let mut last = server.sidecar("restless").await;
    assert_eq!(last.heard().await, 3);
    for _ in 0..20 {
        let mut newer = server.sidecar("restless").await;
        assert_eq!(newer.heard().await, 3);
        assert_eq!(last.next().await.unwrap_err().code(), Code::Aborted);
        last = newer;
    }
    assert_eq!(server.metrics.duplicate_nodes.get(), 20);
    server.until("two are left", |metrics| metrics.open("sidecar") == 2).await;
    server.publish(2, 4);
    assert_eq!((other.heard().await, last.heard().await), (1, 1));
    drop((other, last));
    server.forgotten().await;
}

#[tokio::test]
async fn envoys_may_share_an_id() {
    let server = Server::with(3, Settings::default());
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let mut envoy = Sidecar::open(server.channel().await).await.unwrap();
        let mut first = asks("edge", CLUSTER);
        first.node.as_mut().unwrap().user_agent_name = "envoy".to_owned();
        envoy.send(first).await;
        assert_eq!(envoy.heard().await, 3);
        replicas.push(envoy);
    }
    server.publish(2, 4);
    for envoy in &mut replicas {
        assert_eq!(envoy.heard().await, 1);
    }
}

#[tokio::test]
async fn all_come_back_at_once_and_none_is_turned_away() {
    let server = Arc::new(Server::with(300, Settings::default()));
    let mut fleet = JoinSet::new();
    for i in 0..500 {
        let server = Arc::clone(&server);
        fleet.spawn(async move {
            let mut sidecar = server.sidecar(&format!("n{i}")).await;
            assert_eq!(sidecar.heard().await, 300);
            sidecar
        });
    }
    let sidecars = fleet.join_all().await;
    assert_eq!(server.metrics.open("sidecar"), 500);
    drop(sidecars);
    server.forgotten().await;
}

#[tokio::test]
async fn places_are_counted() {
    let settings = Settings { xds_max_streams: 2, xds_max_connections: 1, ..Settings::default() };
    let server = Server::with(1, settings);
    let channel = server.channel().await;
    let streams = [
        Sidecar::open(channel.clone()).await.unwrap(),
        Sidecar::open(channel.clone()).await.unwrap(),
    ];
    let third = Sidecar::open(channel.clone()).await.map(|_| ());
    assert_eq!(third.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(server.metrics.refusals("streams"), 1);
    let mut second = TcpStream::connect(server.address).await.unwrap();
    let closed = tokio::time::timeout(PATIENCE, second.read(&mut [0; 16])).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    drop(streams);
    drop(channel);
    server.forgotten().await;
}

#[tokio::test]
async fn an_old_stream_ends_so_that_its_client_may_go_elsewhere() {
    let settings = Settings { xds_max_age_seconds: 1, ..Settings::default() };
    let server = Server::with(1, settings);
    let mut sidecar = server.sidecar("old").await;
    assert_eq!(sidecar.heard().await, 1);
    assert_eq!(sidecar.next().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(server.metrics.endings("age"), 1);
}

#[tokio::test]
async fn what_is_no_grpc_is_closed() {
    let server = Server::with(1, Settings::default());
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let frame = |length: u32, kind: u8, flags: u8, stream: u32| {
        let mut head = length.to_be_bytes()[1..].to_vec();
        head.extend([kind, flags]);
        head.extend(stream.to_be_bytes());
        head
    };
    let noise: Vec<u8> =
        (0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let settings_frame = frame(0, 4, 0, 0);
    // A header block that goes on for ever, one frame after the other.
    let endless = {
        let mut all =
            [&preface[..], &settings_frame, &frame(3, 1, 0, 1), &[0x82, 0x86, 0x84]].concat();
        for _ in 0..64 {
            let field = [&[0x40, 1, b'a', 0x7f, 0x81, 0x7e][..], &[b'x'; 16_000]].concat();
            all.extend(frame(u32::try_from(field.len()).unwrap(), 9, 0, 1));
            all.extend(field);
        }
        all
    };
    for garbage in [
        noise.clone(),
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        [&preface[..], &noise].concat(),
        [&preface[..], &settings_frame, &frame(0x00ff_ffff, 0, 0, 1)].concat(),
        endless,
    ] {
        let mut peer = TcpStream::connect(server.address).await.unwrap();
        // The server may close before all is written.
        let _ = peer.write_all(&garbage).await;
        let mut told = Vec::new();
        let end = tokio::time::timeout(PATIENCE, peer.read_to_end(&mut told)).await;
        assert!(end.is_ok(), "not closed after {:?}…", &garbage[..32]);
    }
    server.forgotten().await;
}

#[tokio::test]
async fn what_is_no_request_is_refused_with_a_status() {
    let server = Server::with(1, Settings::default());
    let open = || async { Sidecar::open(server.channel().await).await.unwrap() };

    let mut oversized = open().await;
    let mut request = asks("big", CLUSTER);
    request.resource_names_subscribe = vec!["n".repeat(5 << 20)];
    oversized.send(request).await;
    assert_eq!(oversized.next().await.unwrap_err().code(), Code::ResourceExhausted);

    let mut many = open().await;
    let mut request = asks("many", CLUSTER);
    request.resource_names_subscribe = (0..140_000).map(|i| format!("c{i}")).collect();
    many.send(request).await;
    assert_eq!(many.next().await.unwrap_err().code(), Code::ResourceExhausted);

    let mut curious = open().await;
    for i in 0..40 {
        curious.send(asks("curious", &format!("type.googleapis.com/no.such.Type{i}"))).await;
    }
    assert_eq!(curious.next().await.unwrap_err().code(), Code::ResourceExhausted);

    let mut typeless = open().await;
    typeless.send(asks("typeless", "")).await;
    assert_eq!(typeless.next().await.unwrap_err().code(), Code::InvalidArgument);

    let mut long = tonic::Request::new(tokio_stream::pending());
    long.metadata_mut().insert("x-long", "x".repeat(60_000).parse().unwrap());
    let mut client = AggregatedDiscoveryServiceClient::new(server.channel().await);
    let mut refused = client.delta_aggregated_resources(long).await.unwrap().into_inner();
    assert!(refused.message().await.is_err());

    let mut sidecar = server.sidecar("good").await;
    assert_eq!(sidecar.heard().await, 1);
    sidecar.send(asks("good", LISTENER)).await;
    assert_eq!(sidecar.heard().await, 1);
    drop((oversized, many, curious, typeless, client, sidecar));
    server.forgotten().await;
}
