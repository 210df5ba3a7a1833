//! What clients hold, as Envoy's `ClientStatusDiscoveryService` tells it for the fleet.

use std::collections::BTreeMap;
use std::time::Duration;

use envoy_types::pb::envoy::admin::v3::ClientResourceStatus;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
};
use envoy_types::pb::envoy::service::status::v3::client_config::GenericXdsConfig;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use envoy_types::pb::envoy::service::status::v3::{ClientConfig, ClientStatusRequest};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{NodeMatcher, RegexMatcher, StringMatcher};
use envoy_types::pb::google::rpc;
use prost::Message as _;
use segue_shared::xds_names::type_urls::{CLUSTER, ENDPOINT};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::support::{Plane, chat, empty};

const PATIENCE: Duration = Duration::from_secs(20);

/// A delta client of the xDS port.
pub struct Client {
    id: String,
    cluster: String,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Client {
    pub async fn connect(plane: &Plane, id: &str, cluster: &str) -> Self {
        let address = format!("http://{}", plane.running.xds_address);
        let mut client = AggregatedDiscoveryServiceClient::connect(address).await.unwrap();
        let (requests, receiver) = mpsc::channel(16);
        let responses = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await;
        let (id, cluster) = (id.to_owned(), cluster.to_owned());
        Self { id, cluster, requests, responses: responses.unwrap().into_inner() }
    }

    pub async fn want(&self, type_url: &str, names: &[&str]) {
        let node = Node {
            id: self.id.clone(),
            cluster: self.cluster.clone(),
            user_agent_name: "envoy".to_owned(),
            ..Node::default()
        };
        let request = DeltaDiscoveryRequest {
            node: Some(node),
            type_url: type_url.to_owned(),
            resource_names_subscribe: names.iter().map(|&name| name.to_owned()).collect(),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }

    /// Answers responses until one of a type that holds resources, which is refused where a reason
    /// is given.
    pub async fn answer(&mut self, type_url: &str, refused: Option<&str>) {
        loop {
            let next = timeout(PATIENCE, self.responses.message()).await.unwrap();
            let response = next.unwrap().unwrap();
            let last = response.type_url == type_url && !response.resources.is_empty();
            let error = refused.filter(|_| last).map(|message| rpc::Status {
                code: 3,
                message: message.to_owned(),
                ..rpc::Status::default()
            });
            let request = DeltaDiscoveryRequest {
                type_url: response.type_url,
                response_nonce: response.nonce,
                error_detail: error,
                ..DeltaDiscoveryRequest::default()
            };
            self.requests.send(request).await.unwrap();
            if last {
                return;
            }
        }
    }
}

/// A client that took `default/chat/v1`, refused `v2`, and asks for endpoints that do not exist.
async fn connected(plane: &Plane, id: &str) -> Client {
    let mut client = Client::connect(plane, id, "").await;
    client.want(CLUSTER, &["default/chat/v1", "default/chat/v2"]).await;
    client.answer(CLUSTER, Some("default/chat/v2: lb_policy: unknown")).await;
    client.want(ENDPOINT, &["default/nope/v1"]).await;
    client
}

fn by(pattern: MatchPattern) -> NodeMatcher {
    let id = StringMatcher { match_pattern: Some(pattern), ignore_case: false };
    NodeMatcher { node_id: Some(id), ..NodeMatcher::default() }
}

pub type Csds = ClientStatusDiscoveryServiceClient<Channel>;

/// Asks until the answer is as expected.
async fn fetch(
    csds: &mut Csds,
    request: ClientStatusRequest,
    expected: impl Fn(&[ClientConfig]) -> bool,
) -> Vec<ClientConfig> {
    let asked = async {
        loop {
            let answer = csds.fetch_client_status(request.clone()).await.unwrap().into_inner();
            if expected(&answer.config) {
                return answer.config;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, asked).await.unwrap()
}

/// Whether all that the client was sent and asked for is known.
fn settled(clients: &[ClientConfig]) -> bool {
    clients.first().is_some_and(|client| client.generic_xds_configs.len() == 3)
}

fn by_name(client: &ClientConfig) -> BTreeMap<&str, &GenericXdsConfig> {
    client.generic_xds_configs.iter().map(|config| (config.name.as_str(), config)).collect()
}

#[tokio::test]
async fn a_client_s_resources_are_told_with_their_states() {
    let (mut plane, _directory) = empty().await;
    plane.apply(&chat(5)).await.unwrap();
    let _client = connected(&plane, "envoy-1").await;
    let mut csds = Csds::new(plane.channel.clone());
    let clients = fetch(&mut csds, ClientStatusRequest::default(), settled).await;
    assert_eq!(clients.len(), 1);
    assert_eq!(clients[0].node.as_ref().unwrap().id, "envoy-1");

    let configs = by_name(&clients[0]);
    let status = |name: &str| configs[name].client_status();
    assert_eq!(status("default/chat/v1"), ClientResourceStatus::Acked);
    assert_eq!(status("default/chat/v2"), ClientResourceStatus::Nacked);
    assert_eq!(status("default/nope/v1"), ClientResourceStatus::DoesNotExist);
    let good = configs["default/chat/v1"];
    assert_eq!(good.type_url, CLUSTER);
    assert!(!good.version_info.is_empty());
    let body = good.xds_config.as_ref().unwrap();
    assert_eq!(Cluster::decode(&*body.value).unwrap().name, "default/chat/v1");
    let refused = configs["default/chat/v2"].error_state.as_ref().unwrap();
    assert!(refused.details.contains("lb_policy") && !refused.version_info.is_empty());
    assert!(refused.failed_configuration.is_some());
}

#[tokio::test]
async fn nodes_are_chosen_by_id_and_contents_left_out() {
    let (mut plane, _directory) = empty().await;
    plane.apply(&chat(5)).await.unwrap();
    let _one = connected(&plane, "envoy-1").await;
    let _two = connected(&plane, "envoy-2").await;
    let mut csds = Csds::new(plane.channel.clone());
    let request = |pattern| ClientStatusRequest {
        node_matchers: vec![by(pattern)],
        exclude_resource_contents: true,
        ..ClientStatusRequest::default()
    };
    let exact = request(MatchPattern::Exact("envoy-2".to_owned()));
    let clients = fetch(&mut csds, exact, settled).await;
    assert_eq!(clients[0].node.as_ref().unwrap().id, "envoy-2");
    let configs = by_name(&clients[0]);
    assert!(configs.values().all(|config| config.xds_config.is_none()));
    assert!(configs["default/chat/v2"].error_state.is_some());

    let both = request(MatchPattern::Prefix("envoy-".to_owned()));
    fetch(&mut csds, both, |clients| clients.len() == 2).await;
    let none = request(MatchPattern::Suffix("-3".to_owned()));
    fetch(&mut csds, none, <[_]>::is_empty).await;

    let regex = RegexMatcher { regex: "envoy-.*".to_owned(), ..RegexMatcher::default() };
    let refused = csds.fetch_client_status(request(MatchPattern::SafeRegex(regex))).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_stream_answers_each_request_and_forgets_clients_that_left() {
    let (mut plane, _directory) = empty().await;
    plane.apply(&chat(5)).await.unwrap();
    let client = connected(&plane, "envoy-1").await;
    let mut csds = Csds::new(plane.channel.clone());
    fetch(&mut csds, ClientStatusRequest::default(), settled).await;
    let (requests, receiver) = mpsc::channel(1);
    let answers = csds.stream_client_status(ReceiverStream::new(receiver)).await.unwrap();
    let mut answers = answers.into_inner();
    for _ in 0..2 {
        requests.send(ClientStatusRequest::default()).await.unwrap();
        let answer = timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(answer.config.len(), 1);
    }
    drop(client);
    fetch(&mut csds, ClientStatusRequest::default(), <[_]>::is_empty).await;
}
