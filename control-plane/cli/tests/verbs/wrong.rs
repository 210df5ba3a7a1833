//! What goes wrong before anything happens.

use crate::support::{CHAT, World, run};

#[tokio::test]
async fn usage_errors_exit_with_two() {
    for args in [
        vec![],
        vec!["frobnicate"],
        vec!["get"],
        vec!["get", "pods"],
        vec!["get", "svc/chat", "chat"],
        vec!["apply"],
        vec!["apply", "-f", "x.yaml", "--wait=soon"],
        vec!["describe", "svc"],
        vec!["delete"],
        vec!["schema", "pod"],
        vec!["completion", "tcsh"],
        vec!["--server", "not an address", "status"],
    ] {
        let run = run(&args).await;
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{args:?}: {run:?}");
        assert!(!run.err.is_empty(), "{args:?}");
    }
}

#[tokio::test]
async fn help_and_version_are_answers() {
    let help = run(&["--help"]).await;
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    for verb in [
        "apply",
        "diff",
        "get",
        "describe",
        "delete",
        "history",
        "undo",
        "status",
        "wait",
        "schema",
        "completion",
    ] {
        assert!(help.out.contains(&format!("\n  {verb} ")), "{verb} in {}", help.out);
    }
    assert!(run(&["--version"]).await.out.starts_with("segue "));
}

#[tokio::test]
async fn a_silent_server_is_named_with_the_way_to_start_one() {
    // Bound and dropped: nobody listens there any more.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = run(&["--server", &format!("http://{free}"), "status"]).await;
    assert_eq!(run.code, 1);
    assert!(run.err.contains(&format!("http://{free}: Connection refused")), "{}", run.err);
    assert!(run.err.contains("segue-control-plane --data-dir"), "{}", run.err);
}

#[tokio::test]
async fn a_diff_that_cannot_be_made_is_no_difference() {
    let world = World::new().await;
    let file = world.file("chat.yaml", CHAT);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = run(&["--server", &format!("http://{free}"), "diff", "-f", &file]).await;
    assert_eq!((run.code, run.out.as_str()), (2, ""));
    assert!(run.err.contains("Connection refused"), "{}", run.err);
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_told_before_anything_changes() {
    let world = World::new().await;
    let file = world.file("chat.yaml", CHAT);
    let run = world.segue(&["apply", "-f", &file, "--wait=2h"]).await;
    assert_eq!((run.code, run.out.as_str()), (2, ""));
    assert!(run.err.contains("at most 1h"), "{}", run.err);
    let status = world.segue(&["status"]).await;
    assert_eq!(status.out, "revision 0: no sidecar is connected\n");
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let world = World::new().await;
    let run = world.segue(&["apply", "-f", "no/such.yaml"]).await;
    assert_eq!(run.code, 1);
    assert!(run.err.starts_with("error: no/such.yaml: No such file"), "{}", run.err);
    let empty = world.directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let run = world.segue(&["apply", "-f", empty.to_str().unwrap()]).await;
    assert_eq!(run.code, 2);
}
