//! Restores that stand still, or whose caller loses its rights on the way.

use std::fs;
use std::path::Path;
use std::time::Duration;

use segue_control_plane::access::AccessSettings;
use segue_control_plane::assembly::{ControlPlane, start};
use segue_control_plane::settings::Settings;
use segue_control_plane_core::backup::{FORMAT, Seal};
use segue_control_plane_core::config::{self, SourceText};
use segue_proto::admin::v1::backup_record::Record;
use segue_proto::admin::v1::backup_service_client::BackupServiceClient;
use segue_proto::admin::v1::config_service_client::ConfigServiceClient;
use segue_proto::admin::v1::{
    BackupCommit, BackupHeader, BackupRecord, BackupResource, ListRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::support::{empty, service};

const OPS: &str = "segue-op-of-ops-0123456789";
const OTHER: &str = "segue-op-of-other-0123456789";

/// A full backup of one service.
fn full() -> Vec<BackupRecord> {
    let text = SourceText { name: "x.yaml".to_owned(), content: service("chat") };
    let resource = config::parse(&[text]).unwrap().remove(0).resource;
    let time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    let stored = BackupResource {
        resource: Some(resource),
        revision: 1,
        created_at: time,
        changed_at: time,
    };
    sealed(0, 1, vec![Record::Resource(stored)])
}

/// A backup of the commits after the full one: it deletes the service.
fn incremental() -> Vec<BackupRecord> {
    let commit = BackupCommit {
        revision: 2,
        committed_at: Some(prost_types::Timestamp { seconds: 2, nanos: 0 }),
        deletes: vec![segue_proto::config::v1::ResourceKey {
            kind: "Service".to_owned(),
            namespace: "default".to_owned(),
            name: "chat".to_owned(),
        }],
        ..BackupCommit::default()
    };
    sealed(1, 2, vec![Record::Commit(commit)])
}

fn sealed(since_revision: u64, revision: u64, content: Vec<Record>) -> Vec<BackupRecord> {
    let header =
        BackupHeader { format: FORMAT, since_revision, revision, ..BackupHeader::default() };
    let mut seal = Seal::default();
    let mut records = Vec::new();
    for record in [Record::Header(header)].into_iter().chain(content) {
        let record = BackupRecord { record: Some(record) };
        seal.take(&record);
        records.push(record);
    }
    records.push(seal.footer());
    records
}

fn access(ops: &str) -> String {
    format!(
        "apiVersion: segue.dev/v1alpha1\nkind: AccessList\ncallers:\n\
         \x20 - {{name: ops, tokenFile: {ops}, role: operator}}\n\
         \x20 - {{name: other, tokenFile: other.token, role: operator}}\n"
    )
}

async fn guarded(directory: &Path) -> ControlPlane {
    fs::write(directory.join("ops.token"), OPS).unwrap();
    fs::write(directory.join("new.token"), "segue-op-of-new-0123456789").unwrap();
    fs::write(directory.join("other.token"), OTHER).unwrap();
    fs::write(directory.join("access.yaml"), access("ops.token")).unwrap();
    let access_file = Some(directory.join("access.yaml"));
    let access = AccessSettings { access_file, ..AccessSettings::default() };
    let settings = Settings { insecure_dev: false, access, ..Settings::local(directory.join("d")) };
    start(settings).await.unwrap()
}

fn with<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

async fn channel(running: &ControlPlane) -> Channel {
    let address = format!("http://{}", running.admin_address);
    Channel::from_shared(address).unwrap().connect().await.unwrap()
}

async fn restore(channel: Channel, records: Vec<BackupRecord>, token: &str) -> Result<u64, Status> {
    let records = with(tokio_stream::iter(records), token);
    let restored = BackupServiceClient::new(channel).restore(records).await?;
    Ok(restored.into_inner().revision)
}

#[tokio::test]
async fn a_restore_that_stands_still_makes_room_for_others() {
    let (plane, _directory) = empty().await;
    let (records, receiver) = mpsc::channel(8);
    records.send(full().remove(0)).await.unwrap();
    let mut client = BackupServiceClient::new(plane.channel.clone());
    let still = tokio::spawn(async move { client.restore(ReceiverStream::new(receiver)).await });
    // What is empty restores nothing, and says whether it is its turn.
    let busy = async {
        while restore(plane.channel.clone(), vec![], "none").await.unwrap_err().code()
            != Code::ResourceExhausted
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), busy).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    let still = still.await.unwrap().unwrap_err();
    assert_eq!(still.code(), Code::DeadlineExceeded, "{still}");
    assert!(still.message().contains("nothing was restored"), "{still}");
    assert_eq!(restore(plane.channel.clone(), full(), "none").await.unwrap(), 1);
}

#[tokio::test]
async fn who_loses_the_right_on_the_way_restores_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let running = guarded(directory.path()).await;
    let channel = channel(&running).await;
    let (records, receiver) = mpsc::channel(8);
    let mut all = full();
    let last = all.pop().unwrap();
    for record in all {
        records.send(record).await.unwrap();
    }
    let mut client = BackupServiceClient::new(channel.clone());
    let request = with(ReceiverStream::new(receiver), OPS);
    let restoring = tokio::spawn(async move { client.restore(request).await });

    fs::write(directory.path().join("access.yaml"), access("new.token")).unwrap();
    let mut list = ConfigServiceClient::new(channel.clone());
    let gone = async {
        while list.list(with(ListRequest::default(), OPS)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    records.send(last).await.unwrap();
    drop(records);
    let refused = restoring.await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let listed = list.list(with(ListRequest::default(), OTHER)).await.unwrap().into_inner();
    assert_eq!((listed.revision, listed.resources.len()), (0, 0));
}

#[tokio::test]
async fn the_audit_log_tells_what_was_restored() {
    let directory = tempfile::tempdir().unwrap();
    let running = guarded(directory.path()).await;
    let channel = channel(&running).await;
    assert_eq!(restore(channel.clone(), full(), OPS).await.unwrap(), 1);
    assert_eq!(restore(channel.clone(), incremental(), OPS).await.unwrap(), 2);
    drop(channel);
    running.shutdown().await;
    let text = fs::read_to_string(directory.path().join("d/audit.log")).unwrap();
    let told: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (line, (kind, revision)) in told.iter().zip([("full", 1), ("incremental", 2)]) {
        assert_eq!(line["method"], "segue.admin.v1.BackupService/Restore");
        assert_eq!((&line["backup"], &line["resourceCount"]), (&kind.into(), &1.into()), "{text}");
        assert_eq!(line["revision"], revision);
    }
    assert_eq!(told.len(), 2);
}
