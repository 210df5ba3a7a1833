//! The admin API, for tests that change configuration faster than a command line can start.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use segue_proto::admin::v1::config_service_client::ConfigServiceClient;
use segue_proto::admin::v1::status_service_client::StatusServiceClient;
use segue_proto::admin::v1::wait_activated_response::Outcome;
use segue_proto::admin::v1::{
    ApplyRequest, DeleteRequest, ListRequest, ListSidecarsRequest, Sidecar, SourceFile,
    WaitActivatedRequest,
};
use segue_proto::config::v1::ResourceKey;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

/// A connection to a control plane's admin port.
pub struct Admin {
    runtime: Runtime,
    config: ConfigServiceClient<Channel>,
    status: StatusServiceClient<Channel>,
}

impl Admin {
    /// Connects now.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(io::Error::other)?
            .connect_timeout(Duration::from_secs(5));
        let channel = runtime.block_on(endpoint.connect()).map_err(io::Error::other)?;
        Ok(Self {
            runtime,
            config: ConfigServiceClient::new(channel.clone()),
            status: StatusServiceClient::new(channel),
        })
    }

    /// Applies a text of one or more documents and gives the revision that holds it.
    pub fn apply(&mut self, yaml: impl Into<String>) -> io::Result<u64> {
        let request = ApplyRequest {
            files: vec![SourceFile { name: "test.yaml".into(), content: yaml.into() }],
            author: "tests".into(),
            ..ApplyRequest::default()
        };
        let response = self.runtime.block_on(self.config.apply(request));
        Ok(response.map_err(io::Error::other)?.into_inner().revision)
    }

    /// Deletes resources of the namespace `default`, as kind and name.
    pub fn delete(&mut self, resources: &[(&str, &str)]) -> io::Result<u64> {
        let keys = resources
            .iter()
            .map(|(kind, name)| ResourceKey {
                kind: (*kind).to_owned(),
                namespace: "default".into(),
                name: (*name).to_owned(),
            })
            .collect();
        let request = DeleteRequest { keys, author: "tests".into(), ..DeleteRequest::default() };
        let response = self.runtime.block_on(self.config.delete(request));
        Ok(response.map_err(io::Error::other)?.into_inner().revision)
    }

    /// Names of all resources of a kind in all namespaces.
    pub fn names(&mut self, kind: &str) -> io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        let mut request = ListRequest { kind: kind.to_owned(), ..ListRequest::default() };
        loop {
            let response = self.runtime.block_on(self.config.list(request.clone()));
            let page = response.map_err(io::Error::other)?.into_inner();
            names.extend(page.resources.into_iter().filter_map(|entry| {
                // The name stands on a line of its own in canonical YAML.
                let name = entry.yaml.lines().find_map(|line| line.strip_prefix("  name: "))?;
                Some(name.to_owned())
            }));
            if page.next_page_token.is_empty() {
                return Ok(names);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Waits until every connected sidecar runs on the revision; gives their number.
    pub fn wait_activated(&mut self, revision: u64, limit: Duration) -> io::Result<u32> {
        let timeout = limit.try_into().map_err(io::Error::other)?;
        let request = WaitActivatedRequest { revision, timeout: Some(timeout) };
        let status = &mut self.status;
        self.runtime.block_on(async {
            let mut progress =
                status.wait_activated(request).await.map_err(io::Error::other)?.into_inner();
            let mut last = None;
            while let Some(message) = progress.message().await.map_err(io::Error::other)? {
                if message.done && message.outcome() == Outcome::Activated {
                    return Ok(message.total);
                }
                last = Some(message);
            }
            Err(io::Error::other(format!("revision {revision} is not active: {last:?}")))
        })
    }

    /// Every sidecar that the control plane knows.
    pub fn sidecars(&mut self) -> io::Result<Vec<Sidecar>> {
        let response =
            self.runtime.block_on(self.status.list_sidecars(ListSidecarsRequest::default()));
        Ok(response.map_err(io::Error::other)?.into_inner().sidecars)
    }
}
