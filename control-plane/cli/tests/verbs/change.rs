//! apply, diff, delete, undo, wait.

use serde_json::{Value, json};

use crate::support::{CHAT, World};

#[tokio::test]
async fn apply_says_what_became_of_each_resource() {
    let world = World::new().await;
    let file = world.file("chat.yaml", CHAT);
    let first = world.segue(&["apply", "-f", &file]).await;
    assert_eq!(first.out, "service/chat created\nroute/chat created\nrevision 1\n");
    assert_eq!((first.code, first.err.as_str()), (0, ""));
    let again = world.segue(&["apply", "-f", &file]).await;
    assert_eq!(again.out, "service/chat unchanged\nroute/chat unchanged\nrevision 1\n");
    let moved = world.segue(&["apply", "-f", &world.chat(50)]).await;
    assert_eq!(moved.out, "service/chat unchanged\nroute/chat configured\nrevision 2\n");
}

#[tokio::test]
async fn apply_takes_directories_and_skips_what_is_no_configuration() {
    let world = World::new().await;
    let (service, route) = CHAT.split_once("---\n").unwrap();
    world.file("mesh/b.yaml", service);
    world.file("mesh/a.yml", route);
    world.file("mesh/notes.txt", "not yaml: [");
    let directory = world.directory.path().join("mesh");
    let run = world.segue(&["apply", "-f", directory.to_str().unwrap()]).await;
    assert_eq!((run.code, run.out.lines().count()), (0, 3), "{run:?}");
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let world = World::new().await;
    let file = world.file("chat.yaml", CHAT);
    let run = world.segue(&["apply", "-f", &file, "--dry-run"]).await;
    assert_eq!(run.out, "service/chat created (dry run)\nroute/chat created (dry run)\n");
    let status = world.segue(&["status"]).await;
    assert_eq!(status.out, "revision 0: no sidecar is connected\n");
}

#[tokio::test]
async fn apply_speaks_to_programs() {
    let world = World::new().await;
    let file = world.file("chat.yaml", CHAT);
    let run = world.segue(&["apply", "-f", &file, "--wait=5s", "-o", "json"]).await;
    let value: Value = serde_json::from_str(&run.out).unwrap();
    let change = |kind: &str| json!({"kind": kind, "namespace": "default", "name": "chat", "change": "created"});
    let expected = json!({
        "revision": 1,
        "dryRun": false,
        "changes": [change("Service"), change("Route")],
        "sidecars": {"total": 0, "activated": 0},
    });
    assert_eq!((run.code, value), (0, expected));
}

#[tokio::test]
async fn every_fault_has_a_line_that_editors_jump_to() {
    let world = World::new().await;
    let bad = CHAT.replace("9001", "99999").replace("weight: 5}", "weigt: 5}");
    let file = world.file("bad.yaml", &bad);
    let run = world.segue(&["apply", "-f", &file]).await;
    assert_eq!((run.code, run.out.as_str()), (1, ""));
    let lines: Vec<&str> = run.err.lines().collect();
    assert!(lines[0].starts_with(&format!("{file}:6:")), "{}", run.err);
    assert!(lines[0].contains("Service default/chat: spec.versions[0].endpoints[0]: "));
    // What only shows when all fields are read together is told in the same answer.
    assert!(lines[1].contains("one of several backends has no weight"), "{}", run.err);
    assert!(lines[2].starts_with(&format!("{file}:18:")), "{}", run.err);
    assert!(lines[2].contains("did you mean `weight`?"), "{}", run.err);
    assert_eq!(*lines.last().unwrap(), "3 faults: nothing was changed");
}

#[tokio::test]
async fn two_hundred_faults_are_all_told() {
    let world = World::new().await;
    let (service, _) = CHAT.split_once("---\n").unwrap();
    let many: Vec<String> = (0..200)
        .map(|n| service.replace("name: chat", &format!("name: s{n}")).replace("9001", "99999"))
        .collect();
    let file = world.file("many.yaml", &many.join("---\n"));
    let run = world.segue(&["apply", "-f", &file]).await;
    assert_eq!((run.code, run.err.lines().last()), (1, Some("200 faults: nothing was changed")));
    assert!(run.err.contains("Service default/s199"));
}

#[tokio::test]
async fn a_stale_revision_is_told() {
    let world = World::with_chat().await;
    world.segue(&["apply", "-f", &world.chat(10)]).await;
    let run = world.segue(&["apply", "-f", &world.chat(20), "--expected-revision", "1"]).await;
    assert_eq!(run.code, 1);
    assert_eq!(
        run.err,
        "error: the configuration moved on: expected revision 1, found 2; read it again and repeat\n"
    );
}

#[tokio::test]
async fn diff_shows_lines_and_exits_like_kubectl() {
    let world = World::with_chat().await;
    let same = world.segue(&["diff", "-f", &world.chat(5)]).await;
    assert_eq!((same.code, same.out.as_str()), (0, ""));
    let moved = world.segue(&["diff", "-f", &world.chat(50)]).await;
    assert_eq!(moved.code, 1);
    let lines: Vec<&str> = moved.out.lines().collect();
    assert_eq!(lines[..2], ["--- stored/route/chat", "+++ given/route/chat"]);
    let changed: Vec<&str> = lines[2..]
        .iter()
        .copied()
        .filter(|line| line.starts_with(['-', '+']))
        .map(str::trim_end)
        .collect();
    assert_eq!(
        changed,
        ["-      weight: 95", "+      weight: 50", "-      weight: 5", "+      weight: 50"]
    );
    assert_eq!(world.segue(&["status"]).await.out, "revision 1: no sidecar is connected\n");
}

#[tokio::test]
async fn delete_refuses_what_others_need() {
    let world = World::with_chat().await;
    let refused = world.segue(&["delete", "service", "chat"]).await;
    assert_eq!((refused.code, refused.out.as_str()), (1, ""));
    assert!(refused.err.contains("Route default/chat: spec.targetRef"), "{}", refused.err);
    let both = world.segue(&["delete", "svc/chat", "route/chat"]).await;
    assert_eq!(both.out, "service/chat deleted\nroute/chat deleted\nrevision 2\n");
    let gone = world.segue(&["delete", "svc", "chat"]).await;
    assert_eq!((gone.code, gone.err.as_str()), (1, "error: not found: Service default/chat\n"));
    let ignored = world.segue(&["delete", "svc", "chat", "--ignore-not-found"]).await;
    assert_eq!(ignored.code, 0);
}

#[tokio::test]
async fn delete_does_all_or_nothing_unless_what_is_gone_does_not_matter() {
    let world = World::with_chat().await;
    let (service, _) = CHAT.split_once("---\n").unwrap();
    let a = world.file("a.yaml", &service.replace("name: chat", "name: a"));
    assert_eq!(world.segue(&["apply", "-f", &a]).await.code, 0);
    let strict = world.segue(&["delete", "svc", "a", "b"]).await;
    assert_eq!((strict.code, strict.out.as_str()), (1, ""));
    assert_eq!(strict.err, "error: not found: Service default/b\n");
    assert_eq!(world.segue(&["get", "svc", "a"]).await.code, 0);
    let lenient = world.segue(&["delete", "svc", "a", "b", "--ignore-not-found"]).await;
    assert_eq!((lenient.code, lenient.out.as_str()), (0, "service/a deleted\nrevision 3\n"));
    assert_eq!(world.segue(&["get", "svc", "a"]).await.code, 1);
}

#[tokio::test]
async fn delete_takes_the_names_out_of_files() {
    let world = World::with_chat().await;
    let run = world.segue(&["delete", "-f", &world.chat(77)]).await;
    assert_eq!(run.out, "service/chat deleted\nroute/chat deleted\nrevision 2\n");
}

#[tokio::test]
async fn undo_goes_back_and_says_so_in_the_history() {
    let world = World::with_chat().await;
    world.segue(&["apply", "-f", &world.chat(50)]).await;
    world.segue(&["apply", "-f", &world.chat(100)]).await;
    let back = world.segue(&["undo"]).await;
    assert_eq!((back.code, back.out.as_str()), (0, "route/chat configured\nrevision 4\n"));
    let first = world.segue(&["undo", "--to", "1"]).await;
    assert_eq!(first.out, "route/chat configured\nrevision 5\n");
    let route = world.segue(&["get", "route", "chat", "-o", "yaml"]).await;
    assert!(route.out.contains("weight: 5\n"), "{}", route.out);
    let nothing = world.segue(&["undo", "--to", "1"]).await;
    assert_eq!(
        (nothing.out.as_str(), nothing.err.as_str()),
        ("revision 5\n", "Nothing changes.\n")
    );
    let history = world.segue(&["history"]).await;
    assert!(history.out.contains("undo to revision 1"), "{}", history.out);
    let unknown = world.segue(&["undo", "--to", "99"]).await;
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("revision 99 is not kept"), "{}", unknown.err);
}

#[tokio::test]
async fn wait_holds_only_for_what_is_committed() {
    let world = World::with_chat().await;
    let there = world.segue(&["wait", "--revision", "1"]).await;
    assert_eq!((there.code, there.out.as_str()), (0, "revision 1: no sidecar is connected\n"));
    let future = world.segue(&["wait", "--revision", "9", "--timeout", "50ms"]).await;
    assert_eq!((future.code, future.out.as_str()), (1, ""));
    assert!(future.err.contains("nobody has committed it"), "{}", future.err);
}
