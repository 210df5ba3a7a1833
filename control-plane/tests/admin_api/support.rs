//! A control plane with its store in a directory of its own, and clients of it.

use std::path::Path;

use prost::Message as _;
use segue_control_plane::assembly::{ControlPlane, start};
use segue_control_plane::settings::Settings;
use segue_proto::admin::v1::config_service_client::ConfigServiceClient;
use segue_proto::admin::v1::status_service_client::StatusServiceClient;
use segue_proto::admin::v1::{ApplyRequest, ApplyResponse, Faults, SourceFile, change};
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Status};

pub struct Plane {
    pub running: ControlPlane,
    pub channel: Channel,
    pub config: ConfigServiceClient<Channel>,
    pub status: StatusServiceClient<Channel>,
}

/// An empty control plane; the directory lives as long as it is held.
pub async fn empty() -> (Plane, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (on(directory.path()).await, directory)
}

/// A control plane on what the directory holds.
pub async fn on(directory: &Path) -> Plane {
    with(Settings::local(directory)).await
}

/// A control plane with these settings.
pub async fn with(settings: Settings) -> Plane {
    let running = start(settings).await.unwrap();
    let channel = Channel::from_shared(format!("http://{}", running.admin_address))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let config = ConfigServiceClient::new(channel.clone());
    let status = StatusServiceClient::new(channel.clone());
    Plane { running, channel, config, status }
}

impl Plane {
    pub async fn apply(&mut self, yaml: &str) -> Result<ApplyResponse, Status> {
        let response = self.config.apply(file("chat.yaml", yaml)).await?;
        Ok(response.into_inner())
    }

    /// The newest revision.
    pub async fn revision(&mut self) -> u64 {
        self.config
            .list(segue_proto::admin::v1::ListRequest::default())
            .await
            .unwrap()
            .into_inner()
            .revision
    }
}

pub fn file(name: &str, yaml: &str) -> ApplyRequest {
    let file = SourceFile { name: name.to_owned(), content: yaml.to_owned() };
    ApplyRequest { files: vec![file], ..ApplyRequest::default() }
}

/// A service with versions v1 and v2.
pub fn service(name: &str) -> String {
    format!(
        "apiVersion: segue.dev/v1alpha1\n\
         kind: Service\n\
         metadata: {{name: {name}}}\n\
         spec:\n\
         \x20 versions:\n\
         \x20   - {{name: v1, endpoints: [\"127.0.0.1:9001\"]}}\n\
         \x20   - {{name: v2, endpoints: [\"127.0.0.1:9002\"]}}\n"
    )
}

/// A route of the service that gives v2 a weight of 100.
pub fn route(name: &str, v2: u32) -> String {
    format!(
        "apiVersion: segue.dev/v1alpha1\n\
         kind: Route\n\
         metadata: {{name: {name}}}\n\
         spec:\n\
         \x20 targetRef: {{kind: Service, name: {name}}}\n\
         \x20 rules:\n\
         \x20   - backendRefs:\n\
         \x20       - {{name: {name}, version: v1, weight: {}}}\n\
         \x20       - {{name: {name}, version: v2, weight: {v2}}}\n",
        100 - v2
    )
}

/// Both, in one file.
pub fn chat(v2: u32) -> String {
    format!("{}---\n{}", service("chat"), route("chat", v2))
}

/// `Service chat created` and the like.
pub fn told(changes: &[segue_proto::admin::v1::Change]) -> Vec<String> {
    changes
        .iter()
        .map(|change| {
            let key = change.key.clone().unwrap();
            let kind = match change.kind() {
                change::Kind::Created => "created",
                change::Kind::Configured => "configured",
                change::Kind::Deleted => "deleted",
                change::Kind::Unchanged => "unchanged",
                change::Kind::Unspecified => "unspecified",
            };
            format!("{} {} {kind}", key.kind, key.name)
        })
        .collect()
}

/// The faults in the details of a refusal.
pub fn faults(status: &Status) -> Faults {
    #[derive(Clone, PartialEq, prost::Message)]
    struct RpcStatus {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(message, repeated, tag = "3")]
        details: Vec<prost_types::Any>,
    }
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let rpc = RpcStatus::decode(status.details()).unwrap();
    assert_eq!(rpc.code, Code::InvalidArgument as i32);
    assert_eq!(rpc.details[0].type_url, "type.googleapis.com/segue.admin.v1.Faults");
    Faults::decode(rpc.details[0].value.as_slice()).unwrap()
}
