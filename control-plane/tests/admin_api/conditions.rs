//! Conditions of resources, as a list and a watch tell them.

use std::time::Duration;

use segue_proto::admin::v1::condition::Status;
use segue_proto::admin::v1::{Entry, ListRequest, WatchRequest};
use tokio::time::timeout;

use crate::streams::Sidecar;
use crate::support::{Plane, chat, empty, service};

/// The entry of the service `chat`, at a revision (0: the newest).
async fn entry(plane: &mut Plane, revision: u64) -> Entry {
    let request = ListRequest {
        kind: "Service".to_owned(),
        name: "chat".to_owned(),
        revision,
        ..ListRequest::default()
    };
    plane.config.list(request).await.unwrap().into_inner().resources.remove(0)
}

fn programmed(entry: &Entry) -> (Status, String) {
    let found = entry.conditions.iter().find(|one| one.r#type == "Programmed").unwrap();
    (found.status(), found.message.clone())
}

#[tokio::test]
async fn a_resource_says_on_how_many_sidecars_requests_run_on_it() {
    let (mut plane, _directory) = empty().await;
    plane.apply(&chat(5)).await.unwrap();
    let one = Sidecar::connect(&plane, "chat-1", 1).await;
    let _other = Sidecar::connect(&plane, "chat-2", 1).await;
    plane.apply(&service("chat").replace("9001", "9009")).await.unwrap();
    let before = entry(&mut plane, 0).await;
    let types: Vec<&str> = before.conditions.iter().map(|one| one.r#type.as_str()).collect();
    assert_eq!(types, ["Accepted", "ResolvedRefs", "Programmed"]);
    assert!(before.conditions.iter().all(|one| one.observed_generation == 2));
    assert_eq!(programmed(&before).0, Status::False);

    one.report(2, vec![]).await;
    let told = "1 of 2 sidecars run on revision 2";
    let reached = async {
        while programmed(&entry(&mut plane, 0).await) != (Status::False, told.to_owned()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), reached).await.unwrap();
    assert!(entry(&mut plane, 1).await.conditions.is_empty(), "what was is not what is");
    assert_eq!(entry(&mut plane, 2).await.conditions.len(), 3, "2 is the newest");

    let mut watch = plane.config.watch(WatchRequest::default()).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert!(first.upserted.iter().all(|entry| entry.conditions.len() == 3));
}
