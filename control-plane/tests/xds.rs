//! The xDS port over a real connection: what clients of both variants see, and what the fleet
//! learns of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use prost::Message;
use segue_control_plane::fleet::{Fleet, SidecarStatus};
use segue_control_plane::metrics::StreamMetrics;
use segue_control_plane::xds::{Settings, SnapshotCache, xds_services};
use segue_control_plane_core::compile::ResolvedEndpoints;
use segue_control_plane_core::config::mesh::{MeshConfig, Protocol, Service, Version};
use segue_proto::report::v1::report_service_client::ReportServiceClient;
use segue_proto::report::v1::{self as report, ReportRequest};
use segue_shared::ids::Revision;
use segue_shared::shutdown::DrainSignal;
use segue_shared::xds_names::short_type;
use segue_shared::xds_names::type_urls::{
    CLUSTER, ENDPOINT, LISTENER, ROUTE, SNAPSHOT_MARK, VIRTUAL_HOST,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// No answer of a test takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server on a free port of its own.
struct Server {
    cache: SnapshotCache,
    fleet: Fleet,
    drain: DrainSignal,
    channel: Channel,
}

impl Server {
    /// A server that has published the versions of `chat` as revision 1.
    async fn with(versions: &[(&str, u16)]) -> Self {
        let server = Self::silent().await;
        server.publish(1, versions);
        server
    }

    /// A server that has published nothing.
    async fn silent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cache, fleet, drain) = (SnapshotCache::default(), Fleet::new(), DrainSignal::new());
        let metrics = StreamMetrics::default();
        let services = xds_services(
            cache.clone(),
            fleet.clone(),
            Settings::default(),
            metrics.clone(),
            drain.clone(),
        );
        tokio::spawn(services.serve(listener, drain.clone()));
        let channel =
            Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { cache, fleet, drain, channel }
    }

    fn publish(&self, revision: u64, versions: &[(&str, u16)]) {
        self.publish_mesh(chat(revision, versions));
    }

    fn publish_mesh(&self, mesh: MeshConfig) {
        self.cache.publish(Arc::new(mesh), Arc::new(ResolvedEndpoints::default()));
    }

    async fn delta(&self) -> Delta {
        let (requests, receiver) = mpsc::channel(16);
        let mut client = AggregatedDiscoveryServiceClient::new(self.channel.clone());
        let answer = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await;
        Delta { requests, responses: answer.unwrap().into_inner() }
    }

    async fn sotw(&self) -> Sotw {
        let (requests, receiver) = mpsc::channel(16);
        let mut client = AggregatedDiscoveryServiceClient::new(self.channel.clone());
        let answer = client.stream_aggregated_resources(ReceiverStream::new(receiver)).await;
        Sotw { requests, responses: answer.unwrap().into_inner() }
    }

    /// Waits until the fleet's one node is as expected.
    async fn node(&self, expected: impl Fn(&SidecarStatus) -> bool) -> SidecarStatus {
        let mut changed = self.fleet.changed();
        let found = async {
            loop {
                let sidecars = self.fleet.sidecars();
                if let Some(found) = sidecars.into_iter().find(&expected) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("never came; there are {:?}", self.fleet.sidecars()))
    }
}

struct Delta {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Delta {
    async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    async fn want(&self, type_url: &str, names: &[&str]) {
        let request = DeltaDiscoveryRequest {
            node: Some(node("delta-node", "segue-sidecar")),
            type_url: type_url.to_owned(),
            resource_names_subscribe: names.iter().map(|&name| name.to_owned()).collect(),
            ..DeltaDiscoveryRequest::default()
        };
        self.send(request).await;
    }

    async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let next = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        next.expect("no response").map(|response| response.expect("the stream ended"))
    }

    async fn answer(&self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(fault),
            ..DeltaDiscoveryRequest::default()
        };
        self.send(request).await;
    }

    /// The next response, ACKed: `Cluster +a -b`.
    async fn heard(&mut self) -> String {
        let response = self.next().await.unwrap();
        self.answer(&response, None).await;
        let added = response.resources.iter().map(|resource| format!(" +{}", resource.name));
        let removed = response.removed_resources.iter().map(|name| format!(" -{name}"));
        let all: String = added.chain(removed).collect();
        format!("{}{all}", short_type(&response.type_url))
    }
}

struct Sotw {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Sotw {
    async fn want(&self, type_url: &str, names: &[&str], answers: Option<&DiscoveryResponse>) {
        let request = DiscoveryRequest {
            node: Some(node("sotw-node", "envoy")),
            type_url: type_url.to_owned(),
            resource_names: names.iter().map(|&name| name.to_owned()).collect(),
            version_info: answers.map(|to| to.version_info.clone()).unwrap_or_default(),
            response_nonce: answers.map(|to| to.nonce.clone()).unwrap_or_default(),
            ..DiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> DiscoveryResponse {
        let next = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        next.expect("no response").unwrap().expect("the stream ended")
    }
}

fn node(id: &str, agent: &str) -> Node {
    Node { id: id.to_owned(), user_agent_name: agent.to_owned(), ..Node::default() }
}

fn fault(message: &str) -> envoy_types::pb::google::rpc::Status {
    envoy_types::pb::google::rpc::Status {
        code: 3,
        message: message.to_owned(),
        ..Default::default()
    }
}

fn chat(revision: u64, versions: &[(&str, u16)]) -> MeshConfig {
    let version = |&(label, port): &(&str, u16)| Version {
        label: label.parse().unwrap(),
        endpoints: vec![SocketAddr::from(([127, 0, 0, 1], port))],
        localities: Vec::new(),
        dns: None,
    };
    let service = Service {
        name: "chat".parse().unwrap(),
        protocol: Protocol::Http,
        hosts: Vec::new(),
        port: 80,
        versions: versions.iter().map(version).collect(),
        default_version: versions[0].0.parse().unwrap(),
        depends_on: None,
    };
    let services = [(service.name.clone(), service)].into_iter().collect();
    MeshConfig { revision: Revision(revision), services, ..MeshConfig::default() }
}

/// Subscribes as our sidecars do and takes everything in.
async fn settle(client: &mut Delta, versions: &[&str]) {
    let names: Vec<String> =
        versions.iter().map(|version| format!("default/chat/{version}")).collect();
    client.want(CLUSTER, &[]).await;
    assert!(client.heard().await.starts_with("Cluster +"));
    client.want(ENDPOINT, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(client.heard().await.starts_with("ClusterLoadAssignment +"));
    client.want(LISTENER, &[]).await;
    assert_eq!(client.heard().await, "Listener +outbound");
    client.want(ROUTE, &["outbound"]).await;
    assert_eq!(client.heard().await, "RouteConfiguration +outbound");
    client.want(VIRTUAL_HOST, &["*"]).await;
    assert_eq!(client.heard().await, "VirtualHost +outbound/default/chat");
    client.want(SNAPSHOT_MARK, &["snapshot"]).await;
    assert_eq!(client.heard().await, "SnapshotMark +snapshot");
}

#[tokio::test]
async fn a_version_moves_without_a_gap_for_a_delta_client() {
    let server = Server::with(&[("v1", 9001)]).await;
    let mut client = server.delta().await;
    settle(&mut client, &["v1"]).await;
    server.node(|node| node.accepted_revision == Revision(1)).await;

    server.publish(2, &[("v2", 9002)]);
    assert_eq!(client.heard().await, "Cluster +default/chat/v2");
    client.want(ENDPOINT, &["default/chat/v2"]).await;
    assert_eq!(client.heard().await, "ClusterLoadAssignment +default/chat/v2");
    assert_eq!(client.heard().await, "VirtualHost +outbound/default/chat");
    assert_eq!(client.heard().await, "Cluster -default/chat/v1");
    assert_eq!(client.heard().await, "ClusterLoadAssignment -default/chat/v1");
    assert_eq!(client.heard().await, "SnapshotMark +snapshot");
    server.node(|node| node.accepted_revision == Revision(2)).await;
}

#[tokio::test]
async fn after_a_restart_of_the_server_only_the_change_travels() {
    let server = Server::with(&[("v1", 9001), ("v2", 9002)]).await;
    let mut client = server.delta().await;
    client.want(CLUSTER, &[]).await;
    let response = client.next().await.unwrap();
    let versions = response.resources.into_iter().map(|resource| (resource.name, resource.version));
    let versions: std::collections::HashMap<String, String> = versions.collect();

    let restarted = Server::with(&[("v1", 9001), ("v2", 9002), ("v3", 9003)]).await;
    let mut client = restarted.delta().await;
    client
        .send(DeltaDiscoveryRequest {
            node: Some(node("delta-node", "segue-sidecar")),
            type_url: CLUSTER.to_owned(),
            initial_resource_versions: versions,
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    assert_eq!(client.heard().await, "Cluster +default/chat/v3");
}

#[tokio::test]
async fn a_refusal_is_shown_with_its_reason() {
    let server = Server::with(&[("v1", 9001), ("v2", 9002)]).await;
    let mut client = server.delta().await;
    client.want(CLUSTER, &[]).await;
    let response = client.next().await.unwrap();
    client.answer(&response, Some("default/chat/v2: lb_policy: unknown")).await;
    let node = server.node(|node| !node.rejections.is_empty()).await;
    assert_eq!(node.rejections.len(), 1);
    let rejection = &node.rejections[0];
    assert_eq!(
        (rejection.type_url.as_str(), rejection.resource.as_str()),
        (CLUSTER, "default/chat/v2")
    );
    assert_eq!((rejection.revision, node.accepted_revision), (Revision(1), Revision::NONE));
    assert!(rejection.reason.contains("lb_policy"));
}

#[tokio::test]
async fn a_state_of_the_world_client_gets_all_clusters_each_time() {
    let server = Server::with(&[("v1", 9001)]).await;
    let mut client = server.sotw().await;
    client.want(CLUSTER, &[], None).await;
    let clusters = client.next().await;
    client.want(ENDPOINT, &["default/chat/v1"], None).await;
    client.want(CLUSTER, &[], Some(&clusters)).await;
    let endpoints = client.next().await;
    assert_eq!(endpoints.type_url, ENDPOINT);
    client.want(ENDPOINT, &["default/chat/v1"], Some(&endpoints)).await;

    server.publish(2, &[("v1", 9001), ("v2", 9002)]);
    let clusters = client.next().await;
    let names = clusters.resources.iter().map(|any| Cluster::decode(&*any.value).unwrap().name);
    assert_eq!(names.collect::<Vec<_>>(), ["default/chat/v1", "default/chat/v2"]);
}

#[tokio::test]
async fn nobody_is_told_of_an_empty_mesh_before_the_first_publication() {
    let server = Server::silent().await;
    let mut client = server.delta().await;
    client.want(CLUSTER, &[]).await;
    assert!(server.fleet.sidecars().is_empty());
    server.publish(3, &[("v1", 9001)]);
    assert_eq!(client.heard().await, "Cluster +default/chat/v1");
}

#[tokio::test]
async fn a_store_that_was_never_written_to_takes_nothing_away() {
    let server = Server::silent().await;
    server.publish_mesh(MeshConfig::default());
    let mut running = server.delta().await;
    let held = ["v0", "v1"].map(|version| (format!("default/chat/{version}"), "old".to_owned()));
    let request = DeltaDiscoveryRequest {
        node: Some(node("running", "segue-sidecar")),
        type_url: CLUSTER.to_owned(),
        initial_resource_versions: held.into(),
        ..DeltaDiscoveryRequest::default()
    };
    running.send(request).await;
    server.node(|node| node.node_id == "running" && node.connected).await;
    let mut new = server.delta().await;
    new.want(CLUSTER, &[]).await;
    assert_eq!(new.heard().await, "Cluster", "a client without anything is told so at once");

    server.publish(1, &[("v1", 9001)]);
    assert_eq!(running.heard().await, "Cluster +default/chat/v1", "the first word");
    assert_eq!(new.heard().await, "Cluster +default/chat/v1");
    running.want(ENDPOINT, &["default/chat/v1"]).await;
    assert_eq!(running.heard().await, "ClusterLoadAssignment +default/chat/v1");
    running.want(LISTENER, &[]).await;
    assert_eq!(running.heard().await, "Listener +outbound");
    running.want(ROUTE, &["outbound"]).await;
    assert_eq!(running.heard().await, "RouteConfiguration +outbound");
    assert_eq!(running.heard().await, "Cluster -default/chat/v0");
}

#[tokio::test]
async fn a_node_whose_service_declares_what_it_needs_is_moved_on_its_stream() {
    let server = Server::silent().await;
    let mesh = |revision, depends_on: Option<&[&str]>| {
        let mut mesh = chat(revision, &[("v1", 9001)]);
        let chat = Arc::clone(mesh.services.values().next().unwrap());
        for name in ["shop", "other"] {
            let mut service = Service::clone(&chat);
            service.name = name.parse().unwrap();
            let depends_on = depends_on.filter(|_| name == "shop");
            service.depends_on =
                depends_on.map(|all| all.iter().map(|name| name.parse().unwrap()).collect());
            mesh.services.insert(service.name.clone(), service.into());
        }
        mesh
    };
    server.publish_mesh(mesh(1, None));
    let mut client = server.delta().await;
    let shop = Node { cluster: "shop".to_owned(), ..node("a", "envoy") };
    let request = DeltaDiscoveryRequest {
        node: Some(shop),
        type_url: CLUSTER.to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    client.send(request).await;
    let all = "Cluster +default/chat/v1 +default/other/v1 +default/shop/v1";
    assert_eq!(client.heard().await, all);
    client.want(ENDPOINT, &[]).await;
    client.want(LISTENER, &[]).await;
    assert_eq!(client.heard().await, "Listener +outbound");
    client.want(ROUTE, &["outbound"]).await;
    assert_eq!(client.heard().await, "RouteConfiguration +outbound");

    server.publish_mesh(mesh(2, Some(&["chat"])));
    assert_eq!(client.heard().await, "RouteConfiguration +outbound");
    assert_eq!(client.heard().await, "Cluster -default/other/v1");
    server.publish_mesh(mesh(3, None));
    assert_eq!(client.heard().await, "Cluster +default/other/v1");
}

#[tokio::test]
async fn what_lives_for_a_time_is_renewed() {
    let server = Server::with(&[("v1", 9001)]).await;
    let mut client = server.delta().await;
    let ttl = Value { kind: Some(Kind::StringValue("5s".to_owned())) };
    let asking = Node {
        client_features: vec!["xds.config.supports-resource-ttl".to_owned()],
        metadata: Some(Struct { fields: [("resource_ttl".to_owned(), ttl)].into() }),
        ..node("mortal", "envoy")
    };
    let request = DeltaDiscoveryRequest {
        node: Some(asking),
        type_url: LISTENER.to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    client.send(request).await;
    let first = client.next().await.unwrap();
    assert_eq!(first.resources[0].ttl.unwrap().seconds, 5);
    assert!(first.resources[0].resource.is_some());
    client.answer(&first, None).await;
    let renewed = client.next().await.unwrap();
    assert_eq!(renewed.resources[0].ttl.unwrap().seconds, 5);
    assert_eq!(renewed.resources[0].version, first.resources[0].version);
    assert!(renewed.resources[0].resource.is_none());
}

#[tokio::test]
async fn a_sidecar_is_known_before_its_first_report() {
    let server = Server::with(&[("v1", 9001)]).await;
    let (sidecar, envoy) = (server.delta().await, server.sotw().await);
    sidecar.want(CLUSTER, &[]).await;
    assert!(server.node(|node| node.node_id == "delta-node").await.reports);
    envoy.want(CLUSTER, &[], None).await;
    assert!(!server.node(|node| node.node_id == "sotw-node").await.reports);
}

#[tokio::test]
async fn a_stream_without_a_name_is_refused_and_a_drain_ends_streams() {
    let server = Server::with(&[("v1", 9001)]).await;
    let mut nameless = server.delta().await;
    nameless
        .send(DeltaDiscoveryRequest { type_url: CLUSTER.to_owned(), ..Default::default() })
        .await;
    assert_eq!(nameless.next().await.unwrap_err().code(), Code::InvalidArgument);

    let mut client = server.delta().await;
    client.want(CLUSTER, &[]).await;
    assert_eq!(client.heard().await, "Cluster +default/chat/v1");
    server.drain.cancel();
    assert_eq!(client.next().await.unwrap_err().code(), Code::Unavailable);
    server.node(|node| !node.connected).await;
}

#[tokio::test]
async fn a_sidecar_tells_what_it_runs() {
    let server = Server::with(&[("v1", 9001)]).await;
    let (reports, receiver) = mpsc::channel(4);
    let mut client = ReportServiceClient::new(server.channel.clone());
    let answer = client.report(ReceiverStream::new(receiver)).await;
    let mut answers = answer.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(answer.interval.unwrap().seconds, 1);
    let who = report::Node {
        id: "a".to_owned(),
        service: "default/shop".to_owned(),
        version: "v1".to_owned(),
        release: "0.1.0".to_owned(),
    };
    let delivery =
        report::Delivery { accepted_revision: 7, activated_revision: 6, rejections: Vec::new() };
    let count = report::VersionCounts {
        service: "default/chat".to_owned(),
        version: "v1".to_owned(),
        requests: 100,
        failures: 1,
        in_flight: 2,
    };
    let request = ReportRequest { node: Some(who), delivery: Some(delivery), counts: vec![count] };
    reports.send(request).await.unwrap();
    let node = server.node(|node| node.activated_revision == Revision(6)).await;
    assert!(node.reports && node.connected);
    assert_eq!((node.service.as_str(), node.accepted_revision), ("default/shop", Revision(7)));
    drop(reports);
    let node = server.node(|node| !node.connected).await;
    assert_eq!((node.traffic[0].requests, node.traffic[0].failures), (100, 1));
}
