//! Who may do what on the admin port.

use std::fs;
use std::path::Path;

use envoy_types::pb::envoy::service::status::v3::ClientStatusRequest;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use segue_control_plane::access::AccessSettings;
use segue_control_plane::assembly::{ControlPlane, start};
use segue_control_plane::settings::Settings;
use segue_proto::admin::v1::config_service_client::ConfigServiceClient;
use segue_proto::admin::v1::status_service_client::StatusServiceClient;
use segue_proto::admin::v1::{
    ApplyRequest, DeleteRequest, ListRequest, ListRevisionsRequest, ListSidecarsRequest,
    UndoRequest, WatchRequest,
};
use segue_proto::config::v1::ResourceKey;
use tempfile::TempDir;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::support::{file, service};

const ACCESS: &str = "apiVersion: segue.dev/v1alpha1
kind: AccessList
callers:
  - {name: ops, tokenFile: ops.token, role: operator}
  - {name: ci, tokenFile: ci.token, role: editor, namespaces: [shop]}
  - {name: eyes, tokenFile: eyes.token, role: viewer, namespaces: [shop]}
";

/// Sends a token with each call.
#[derive(Clone)]
struct Bearer(Option<String>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let value: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

type As = InterceptedService<Channel, Bearer>;

struct Guarded {
    running: ControlPlane,
    directory: TempDir,
}

fn token(name: &str) -> String {
    format!("segue-op-of-{name}-0123456789")
}

async fn guarded() -> Guarded {
    let directory = tempfile::tempdir().unwrap();
    for name in ["ops", "ci", "eyes"] {
        fs::write(directory.path().join(format!("{name}.token")), token(name)).unwrap();
    }
    let access_file = directory.path().join("access.yaml");
    fs::write(&access_file, ACCESS).unwrap();
    let access = AccessSettings { access_file: Some(access_file), ..AccessSettings::default() };
    let running = start(secured(directory.path(), access)).await.unwrap();
    Guarded { running, directory }
}

fn secured(directory: &Path, access: AccessSettings) -> Settings {
    Settings { insecure_dev: false, access, ..Settings::local(directory.join("data")) }
}

async fn channel(running: &ControlPlane, token: Option<String>) -> As {
    let address = format!("http://{}", running.admin_address);
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    InterceptedService::new(channel, Bearer(token))
}

impl Guarded {
    async fn config(&self, name: &str) -> ConfigServiceClient<As> {
        ConfigServiceClient::new(channel(&self.running, Some(token(name))).await)
    }
}

fn in_namespace(namespace: &str, name: &str) -> ApplyRequest {
    let yaml = service(name).replace("{name:", &format!("{{namespace: {namespace}, name:"));
    file("x.yaml", &yaml.replacen(&format!("namespace: {namespace}, name: v"), "name: v", 9))
}

fn key(namespace: &str, name: &str) -> ResourceKey {
    ResourceKey { kind: "Service".into(), namespace: namespace.into(), name: name.into() }
}

#[tokio::test]
async fn the_first_start_makes_a_token_and_asks_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(secured(directory.path(), AccessSettings::default())).await.unwrap();
    let made = fs::read_to_string(directory.path().join("data/operator.token")).unwrap();
    assert!(directory.path().join("data/join.token").exists());

    let mut nobody = ConfigServiceClient::new(channel(&running, None).await);
    let refused = nobody.list(ListRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("DATA_DIR/operator.token"), "{refused}");

    let wrong = Some("segue-op-wrong-0123456789".to_owned());
    let mut wrong = ConfigServiceClient::new(channel(&running, wrong).await);
    assert_eq!(wrong.list(ListRequest::default()).await.unwrap_err().code(), Code::Unauthenticated);

    let mut operator =
        ConfigServiceClient::new(channel(&running, Some(made.trim().to_owned())).await);
    let mut request = file("x.yaml", &service("chat"));
    request.author = "ada".to_owned();
    operator.apply(request).await.unwrap();
    let history = operator.list_revisions(ListRevisionsRequest::default()).await.unwrap();
    assert_eq!(history.into_inner().revisions[0].author, "operator (as ada)");
}

#[tokio::test]
async fn each_role_may_what_it_may() {
    let guarded = guarded().await;
    let mut ops = guarded.config("ops").await;
    ops.apply(in_namespace("shop", "cart")).await.unwrap();
    let dry = |request: ApplyRequest| ApplyRequest { dry_run: true, ..request };
    for (name, reads, edits, undoes) in
        [("eyes", true, false, false), ("ci", true, true, false), ("ops", true, true, true)]
    {
        let mut config = guarded.config(name).await;
        let mut status =
            StatusServiceClient::new(channel(&guarded.running, Some(token(name))).await);
        let delete =
            DeleteRequest { keys: vec![key("shop", "cart")], dry_run: true, ..Default::default() };
        let undo = UndoRequest { dry_run: true, ..UndoRequest::default() };
        let apply = dry(in_namespace("shop", "cart"));
        let mut csds = ClientStatusDiscoveryServiceClient::new(
            channel(&guarded.running, Some(token(name))).await,
        );
        let clients = ClientStatusRequest::default();
        let answers = [
            // It tells of all namespaces.
            (undoes, "client status", csds.fetch_client_status(clients).await.err()),
            (reads, "List", config.list(ListRequest::default()).await.err()),
            (reads, "Watch", config.watch(WatchRequest::default()).await.err()),
            (reads, "history", config.list_revisions(ListRevisionsRequest::default()).await.err()),
            (reads, "status", status.list_sidecars(ListSidecarsRequest::default()).await.err()),
            (edits, "Apply", config.apply(apply).await.err()),
            (edits, "Delete", config.delete(delete).await.err()),
            (undoes, "Undo", config.undo(undo).await.err()),
        ];
        for (may, what, error) in answers {
            let code = error.as_ref().map(Status::code);
            assert_eq!(code, (!may).then_some(Code::PermissionDenied), "{name} {what}: {error:?}");
        }
    }
}

#[tokio::test]
async fn an_editor_stays_in_its_namespaces() {
    let guarded = guarded().await;
    let (mut ops, mut ci) = (guarded.config("ops").await, guarded.config("ci").await);
    ops.apply(in_namespace("bank", "ledger")).await.unwrap();
    ci.apply(in_namespace("shop", "cart")).await.unwrap();

    let mut both = in_namespace("shop", "basket");
    both.files.extend(in_namespace("bank", "ledger").files);
    let refused = ci.apply(both).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("Service bank/ledger"), "{refused}");
    let foreign = DeleteRequest { keys: vec![key("bank", "no-such")], ..DeleteRequest::default() };
    assert_eq!(ci.delete(foreign).await.unwrap_err().code(), Code::PermissionDenied);

    let names = |response: tonic::Response<segue_proto::admin::v1::ListResponse>| {
        response.into_inner().resources.len()
    };
    assert_eq!(names(ops.list(ListRequest::default()).await.unwrap()), 2, "nothing was changed");
    assert_eq!(names(ci.list(ListRequest::default()).await.unwrap()), 1);
    let mut watch = ci.watch(WatchRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().upserted.len(), 1);
    let history = ci.list_revisions(ListRevisionsRequest::default()).await.unwrap().into_inner();
    let told: Vec<(u64, usize)> =
        history.revisions.iter().map(|one| (one.revision, one.changes.len())).collect();
    assert_eq!(told, [(2, 1), (1, 0)], "what others changed is not named");
}

#[tokio::test]
async fn faults_are_told_of_what_is_the_callers_and_noted_for_what_they_are_in() {
    let guarded = guarded().await;
    let mut ci = guarded.config("ci").await;
    let faulty = |namespace: &str, name: &str| {
        let mut request = in_namespace(namespace, name);
        request.files[0].content += "  port: 70000\n";
        request
    };
    let refused = ci.apply(faulty("shop", "cart")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let mut both = in_namespace("shop", "basket");
    both.files.extend(faulty("bank", "ledger").files);
    let refused = ci.apply(both).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("Service bank/ledger"), "{refused}");
    assert!(!refused.message().contains("70000"), "{refused}");
    drop(ci);
    let Guarded { running, directory } = guarded;
    running.shutdown().await;
    let text = fs::read_to_string(directory.path().join("data/audit.log")).unwrap();
    let told: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told[0]["resources"], serde_json::json!(["Service shop/cart"]), "{text}");
    assert_eq!(told[0]["result"], "InvalidArgument");
    let both = serde_json::json!(["Service shop/basket", "Service bank/ledger"]);
    assert_eq!(told[1]["resources"], both, "{text}");
    assert_eq!(told[1]["result"], "PermissionDenied");
}

#[tokio::test]
async fn a_changed_access_file_counts_at_once_and_a_broken_one_changes_nothing() {
    let guarded = guarded().await;
    let (mut ops, mut ci) = (guarded.config("ops").await, guarded.config("ci").await);
    let mut watch = ci.watch(WatchRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap();
    let file = guarded.directory.path().join("access.yaml");

    fs::write(&file, "callers: [").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    ci.list(ListRequest::default()).await.unwrap();

    fs::write(
        &file,
        ACCESS.replace("  - {name: ci,", "  - {name: cd,").replace("ci.token", "ops2"),
    )
    .unwrap();
    fs::write(guarded.directory.path().join("ops2"), token("ops2")).unwrap();
    let gone = async {
        while ci.list(ListRequest::default()).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.unwrap();
    // What lasts is cut before it tells anything more.
    ops.apply(in_namespace("shop", "cart")).await.unwrap();
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unauthenticated);
}
