//! Apply, delete, undo.

use segue_proto::admin::v1::{ApplyRequest, DeleteRequest, ListRevisionsRequest, UndoRequest};
use segue_proto::config::v1::ResourceKey;
use tonic::{Code, Status};

use crate::support::{Plane, chat, empty, faults, file, on, route, service, told};

fn delete(kind: &str, name: &str) -> DeleteRequest {
    let key =
        ResourceKey { kind: kind.to_owned(), namespace: String::new(), name: name.to_owned() };
    DeleteRequest { keys: vec![key], ..DeleteRequest::default() }
}

#[tokio::test]
async fn a_batch_is_one_revision_and_the_same_again_is_none() {
    let (mut plane, _directory) = empty().await;
    let first = plane.apply(&chat(5)).await.unwrap();
    assert_eq!(first.revision, 1);
    assert_eq!(told(&first.changes), ["Service chat created", "Route chat created"]);
    let again = plane.apply(&chat(5)).await.unwrap();
    assert_eq!(again.revision, 1);
    assert_eq!(told(&again.changes), ["Service chat unchanged", "Route chat unchanged"]);
    let moved = plane.apply(&chat(50)).await.unwrap();
    assert_eq!(moved.revision, 2);
    assert_eq!(told(&moved.changes), ["Service chat unchanged", "Route chat configured"]);
    assert!(moved.changes[1].before.contains("weight: 5\n"), "{}", moved.changes[1].before);
    assert!(moved.changes[1].after.contains("weight: 50\n"), "{}", moved.changes[1].after);
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once_and_nothing_is_changed() {
    let (mut plane, _directory) = empty().await;
    let bad = chat(5).replace("version: v2", "version: v9").replace("9001", "99999");
    let status = plane.apply(&bad).await.unwrap_err();
    let faults = faults(&status).faults;
    let endpoint = faults.iter().find(|fault| fault.field_path.contains("endpoints")).unwrap();
    assert_eq!((endpoint.file.as_str(), endpoint.line), ("chat.yaml", 6));
    assert_eq!(endpoint.resource, "Service default/chat");
    for fault in &faults {
        assert!(status.message().contains(&fault.message), "{}", status.message());
    }
    assert_eq!(plane.revision().await, 0);
}

#[tokio::test]
async fn a_reference_to_what_is_nowhere_is_refused_with_its_line() {
    let (mut plane, _directory) = empty().await;
    let status = plane.apply(&route("chat", 5)).await.unwrap_err();
    let faults = faults(&status).faults;
    assert_eq!(faults[0].file, "chat.yaml");
    assert!(faults[0].line > 0 && faults[0].message.contains("default/chat"), "{faults:?}");
    plane.apply(&service("chat")).await.unwrap();
    assert_eq!(plane.apply(&route("chat", 5)).await.unwrap().revision, 2);
}

#[tokio::test]
async fn one_resource_twice_in_a_batch_is_refused() {
    let (mut plane, _directory) = empty().await;
    let twice = format!("{}---\n{}", service("chat"), service("chat").replace("9001", "9009"));
    let status = plane.apply(&twice).await.unwrap_err();
    assert!(!faults(&status).faults.is_empty());
    assert_eq!(plane.revision().await, 0);
}

#[tokio::test]
async fn an_empty_batch_is_refused() {
    let (mut plane, _directory) = empty().await;
    let status = plane.config.apply(ApplyRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_stale_base_is_aborted() {
    let (mut plane, _directory) = empty().await;
    plane.apply(&chat(5)).await.unwrap();
    plane.apply(&chat(10)).await.unwrap();
    let stale = ApplyRequest { expected_revision: 1, ..file("chat.yaml", &chat(20)) };
    let status = plane.config.apply(stale).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(status.message(), "the configuration moved on: expected revision 1, found 2");
    assert_eq!(plane.revision().await, 2);
    let fresh = ApplyRequest { expected_revision: 2, ..file("chat.yaml", &chat(20)) };
    assert_eq!(plane.config.apply(fresh).await.unwrap().into_inner().revision, 3);
}

#[tokio::test]
async fn a_dry_run_tells_and_does_nothing() {
    let (mut plane, _directory) = empty().await;
    let dry = ApplyRequest { dry_run: true, ..file("chat.yaml", &chat(5)) };
    let response = plane.config.apply(dry).await.unwrap().into_inner();
    assert_eq!(response.revision, 0);
    assert_eq!(told(&response.changes), ["Service chat created", "Route chat created"]);
    assert_eq!(plane.revision().await, 0);
}

#[tokio::test]
async fn callers_at_one_time_all_land_and_none_is_lost() {
    let (plane, _directory) = empty().await;
    let calls = (0..16).map(|n| {
        let mut config = plane.config.clone();
        let request = file("one.yaml", &service(&format!("service-{n}")));
        async move { config.apply(request).await.unwrap().into_inner().revision }
    });
    let mut revisions = futures_util::future::join_all(calls).await;
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=16).collect::<Vec<u64>>());
}

#[tokio::test]
async fn what_others_refer_to_is_not_deleted() {
    let (mut plane, _directory) = empty().await;
    plane.apply(&chat(5)).await.unwrap();
    let status = plane.config.delete(delete("Service", "chat")).await.unwrap_err();
    let faults = faults(&status).faults;
    assert!(faults.iter().any(|fault| fault.resource == "Route default/chat"), "{faults:?}");
    assert_eq!(plane.revision().await, 1);
    let route = plane.config.delete(delete("route", "chat")).await.unwrap().into_inner();
    assert_eq!(told(&route.changes), ["Route chat deleted"]);
    let service = plane.config.delete(delete("svc", "chat")).await.unwrap().into_inner();
    assert_eq!(
        (service.revision, told(&service.changes)),
        (3, vec!["Service chat deleted".into()])
    );
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_not_found() {
    let (mut plane, _directory) = empty().await;
    let status = plane.config.delete(delete("Service", "nope")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "not found: Service default/nope")
    );
    let status = plane.config.delete(delete("Pod", "nope")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_undo_is_a_new_revision_with_an_old_content() {
    let (mut plane, _directory) = empty().await;
    plane.apply(&chat(5)).await.unwrap();
    plane.apply(&chat(50)).await.unwrap();
    plane.apply(&service("other")).await.unwrap();
    let last = plane.config.undo(UndoRequest::default()).await.unwrap().into_inner();
    assert_eq!((last.revision, told(&last.changes)), (4, vec!["Service other deleted".into()]));
    let first = UndoRequest { to_revision: 1, ..UndoRequest::default() };
    let first = plane.config.undo(first).await.unwrap().into_inner();
    assert_eq!((first.revision, told(&first.changes)), (5, vec!["Route chat configured".into()]));
    assert!(first.changes[0].after.contains("weight: 5\n"), "{}", first.changes[0].after);
}

#[tokio::test]
async fn each_undo_goes_one_change_further_back() {
    let (mut plane, _directory) = empty().await;
    for name in ["a", "b", "c"] {
        plane.apply(&service(name)).await.unwrap();
    }
    let undo = async |plane: &mut Plane| {
        let undone = plane.config.undo(UndoRequest::default()).await?.into_inner();
        Ok::<_, Status>(told(&undone.changes))
    };
    assert_eq!(undo(&mut plane).await.unwrap(), ["Service c deleted"]);
    assert_eq!(undo(&mut plane).await.unwrap(), ["Service b deleted"]);
    // A change made since is the first to go.
    plane.apply(&service("d")).await.unwrap();
    assert_eq!(undo(&mut plane).await.unwrap(), ["Service d deleted"]);
    assert_eq!(undo(&mut plane).await.unwrap(), ["Service a deleted"]);
    let end = undo(&mut plane).await.unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::FailedPrecondition, "there is nothing to undo"));
    // The way forward again has a name.
    let forward = UndoRequest { to_revision: 3, ..UndoRequest::default() };
    let forward = plane.config.undo(forward).await.unwrap().into_inner();
    assert_eq!(forward.changes.len(), 3);
    assert_eq!(undo(&mut plane).await.unwrap(), ["Service c deleted"]);

    let history = plane.config.list_revisions(ListRevisionsRequest::default()).await.unwrap();
    let history: Vec<(u64, Option<u64>, String)> = history
        .into_inner()
        .revisions
        .into_iter()
        .map(|it| (it.revision, it.restored_revision, it.message))
        .take(3)
        .collect();
    let expected = [(10, Some(2)), (9, Some(3)), (8, Some(0))].map(|(revision, restored)| {
        (revision, restored, format!("undo to revision {}", restored.unwrap_or_default()))
    });
    assert_eq!(history, expected);
}

#[tokio::test]
async fn there_is_no_way_back_beyond_the_first_and_the_future() {
    let (mut plane, _directory) = empty().await;
    let status = plane.config.undo(UndoRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    plane.apply(&chat(5)).await.unwrap();
    let future = UndoRequest { to_revision: 7, ..UndoRequest::default() };
    let status = plane.config.undo(future).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    let undone = plane.config.undo(UndoRequest::default()).await.unwrap().into_inner();
    assert_eq!(told(&undone.changes), ["Service chat deleted", "Route chat deleted"]);
}

#[tokio::test]
async fn the_history_tells_who_and_why_and_outlives_the_process() {
    let (mut plane, directory) = empty().await;
    let request = ApplyRequest {
        author: "alice".to_owned(),
        message: "first".to_owned(),
        ..file("chat.yaml", &chat(5))
    };
    plane.config.apply(request).await.unwrap();
    plane.running.shutdown().await;
    let mut plane = on(directory.path()).await;
    let history = plane.config.list_revisions(ListRevisionsRequest::default()).await.unwrap();
    let history = history.into_inner();
    let newest = &history.revisions[0];
    assert_eq!((newest.revision, newest.author.as_str()), (1, "alice"));
    assert_eq!(newest.message, "first");
    assert!(newest.committed_at.is_some());
    assert_eq!(told(&newest.changes), ["Service chat created", "Route chat created"]);
    assert_eq!(plane.apply(&chat(6)).await.unwrap().revision, 2);
}
