//! A bare delta xDS client that remembers what it got, for looking at what a reconnect brings.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use segue_shared::xds_names::type_urls::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use segue_shared::xds_names::{OUTBOUND_ROUTES, short_type};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

const FIRST_LIMIT: Duration = Duration::from_secs(10);
/// Answers that belong together follow each other closer than this.
const QUIET: Duration = Duration::from_millis(500);

/// What one connection brought, such as `Cluster default/chat/v1`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Brought {
    pub changed: BTreeSet<String>,
    pub removed: BTreeSet<String>,
}

/// A client of clusters, their endpoints, listeners and routes.
pub struct DeltaClient {
    runtime: Runtime,
    /// Type to name to version.
    held: BTreeMap<String, BTreeMap<String, String>>,
}

impl DeltaClient {
    /// A client that holds nothing.
    pub fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, held: BTreeMap::new() })
    }

    /// Number of clusters that it holds.
    pub fn clusters(&self) -> usize {
        self.held.get(CLUSTER).map_or(0, BTreeMap::len)
    }

    /// Opens a stream, tells what it holds, takes answers until none comes any more, and closes the
    /// stream.
    pub fn connect(&mut self, xds: SocketAddr) -> io::Result<Brought> {
        let first =
            [CLUSTER, ENDPOINT, LISTENER, ROUTE].map(|type_url| self.first_request(type_url));
        let Self { runtime, held } = self;
        let mut brought = Brought::default();
        runtime.block_on(async {
            let (requests, stream) = mpsc::channel(16);
            for request in first {
                requests.send(request).await.map_err(io::Error::other)?;
            }
            let open = async {
                AggregatedDiscoveryServiceClient::connect(format!("http://{xds}"))
                    .await
                    .map_err(io::Error::other)?
                    .delta_aggregated_resources(ReceiverStream::new(stream))
                    .await
                    .map_err(io::Error::other)
            };
            let mut answers = timeout(FIRST_LIMIT, open)
                .await
                .map_err(|_| io::Error::other("no stream in 10 s"))??
                .into_inner();
            let mut limit = FIRST_LIMIT;
            while let Ok(answer) = timeout(limit, answers.message()).await {
                let Some(answer) = answer.map_err(io::Error::other)? else { break };
                limit = QUIET;
                let said = |name: &str| format!("{} {name}", short_type(&answer.type_url));
                let of_type = held.entry(answer.type_url.clone()).or_default();
                if answer.type_url == CLUSTER {
                    // As every client does: the endpoints of a new cluster, before the ACK.
                    let endpoints = DeltaDiscoveryRequest {
                        type_url: ENDPOINT.to_owned(),
                        resource_names_subscribe: answer
                            .resources
                            .iter()
                            .map(|resource| resource.name.clone())
                            .filter(|name| !of_type.contains_key(name))
                            .collect(),
                        resource_names_unsubscribe: answer.removed_resources.clone(),
                        ..DeltaDiscoveryRequest::default()
                    };
                    requests.send(endpoints).await.map_err(io::Error::other)?;
                }
                for resource in answer.resources {
                    brought.changed.insert(said(&resource.name));
                    of_type.insert(resource.name, resource.version);
                }
                for name in answer.removed_resources {
                    brought.removed.insert(said(&name));
                    of_type.remove(&name);
                }
                let ack = DeltaDiscoveryRequest {
                    type_url: answer.type_url,
                    response_nonce: answer.nonce,
                    ..DeltaDiscoveryRequest::default()
                };
                requests.send(ack).await.map_err(io::Error::other)?;
            }
            Ok::<(), io::Error>(())
        })?;
        Ok(brought)
    }

    fn first_request(&self, type_url: &str) -> DeltaDiscoveryRequest {
        let names = match type_url {
            ROUTE => vec![OUTBOUND_ROUTES.to_owned()],
            ENDPOINT => {
                self.held.get(CLUSTER).into_iter().flatten().map(|(n, _)| n.clone()).collect()
            }
            _ => Vec::new(),
        };
        DeltaDiscoveryRequest {
            node: Some(Node {
                id: "delta-client".into(),
                cluster: "tests".into(),
                ..Node::default()
            }),
            type_url: type_url.to_owned(),
            resource_names_subscribe: names,
            initial_resource_versions: self
                .held
                .get(type_url)
                .into_iter()
                .flatten()
                .map(|(name, version)| (name.clone(), version.clone()))
                .collect(),
            ..DeltaDiscoveryRequest::default()
        }
    }
}
