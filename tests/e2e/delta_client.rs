//! A bare delta xDS client that remembers what it got, for looking at what a reconnect brings.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// What one answer brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Brought {
    pub changed: BTreeSet<String>,
    pub removed: BTreeSet<String>,
}

/// Name and version of each resource of one type that the client holds.
pub struct DeltaClient {
    runtime: Runtime,
    type_url: &'static str,
    pub held: BTreeMap<String, String>,
}

impl DeltaClient {
    /// A client that wants all resources of a type.
    pub fn new(type_url: &'static str) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, type_url, held: BTreeMap::new() })
    }

    /// Opens a stream, tells what it holds, takes the first answer and closes the stream.
    pub fn connect(&mut self, xds: SocketAddr) -> io::Result<Brought> {
        let request = DeltaDiscoveryRequest {
            node: Some(Node {
                id: "delta-client".into(),
                cluster: "tests".into(),
                ..Node::default()
            }),
            type_url: self.type_url.to_owned(),
            initial_resource_versions: self.held.clone().into_iter().collect(),
            ..DeltaDiscoveryRequest::default()
        };
        let answer = self.runtime.block_on(async {
            let exchange = async {
                let mut client = AggregatedDiscoveryServiceClient::connect(format!("http://{xds}"))
                    .await
                    .map_err(io::Error::other)?;
                let (requests, stream) = mpsc::channel(1);
                requests.send(request).await.map_err(io::Error::other)?;
                let mut answers = client
                    .delta_aggregated_resources(ReceiverStream::new(stream))
                    .await
                    .map_err(io::Error::other)?
                    .into_inner();
                let answer = answers.message().await.map_err(io::Error::other)?;
                answer.ok_or_else(|| io::Error::other("the stream ended without an answer"))
            };
            tokio::time::timeout(Duration::from_secs(10), exchange)
                .await
                .map_err(|_| io::Error::other("no answer in 10 s"))?
        })?;
        let mut brought = Brought::default();
        for resource in answer.resources {
            brought.changed.insert(resource.name.clone());
            self.held.insert(resource.name, resource.version);
        }
        for name in answer.removed_resources {
            self.held.remove(&name);
            brought.removed.insert(name);
        }
        Ok(brought)
    }
}
