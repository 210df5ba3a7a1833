//! Backups, and back again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{Run, World};

/// Everything that can be read of the configuration.
async fn all(world: &World) -> Vec<String> {
    let mut outputs = Vec::new();
    for kind in ["all", "services", "routes"] {
        let run = world.segue(&["get", kind, "-o", "yaml"]).await;
        assert_eq!(run.code, 0, "{kind}: {run:?}");
        outputs.push(run.out);
    }
    outputs
}

async fn backup(world: &World, arguments: &[&str], name: &str) -> String {
    let file = world.directory.path().join(name).to_str().unwrap().to_owned();
    let run = world.segue(&[&["backup", "-o", &file], arguments].concat()).await;
    assert_eq!(run.code, 0, "{run:?}");
    file
}

/// A world with three commits, and backups of it: full at 1, then to 2, then to 3.
async fn chain() -> (World, [String; 3]) {
    let world = World::with_chat().await;
    let full = backup(&world, &[], "full").await;
    assert_eq!(world.segue(&["apply", "-f", &world.chat(40)]).await.code, 0);
    let second = backup(&world, &["--since", "1"], "second").await;
    assert_eq!(world.segue(&["delete", "route", "chat"]).await.code, 0);
    let third = backup(&world, &["--since", "2"], "third").await;
    (world, [full, second, third])
}

async fn restore(world: &World, files: &[&str]) -> Run {
    world.segue(&[&["restore", "--yes"], files].concat()).await
}

/// Nothing is there and nothing was ever committed.
async fn assert_empty(world: &World) {
    let history = world.segue(&["history", "-o", "json"]).await;
    assert!(history.out.contains("\"revisions\": []"), "{history:?}");
}

#[tokio::test]
async fn a_chain_of_backups_restores_every_byte() {
    let (world, [full, second, third]) = chain().await;
    let new = World::new().await;
    let run = restore(&new, &[&full, &second, &third]).await;
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
    assert!(run.out.contains("all of revision 1, 2 resources"), "{}", run.out);
    assert!(run.out.contains("from revision 2 to 3, 1 commit: restored"), "{}", run.out);
    assert_eq!(all(&new).await, all(&world).await);
    // The history goes on from the full one.
    let history = new.segue(&["history", "-o", "json"]).await.out;
    assert!(history.contains("\"oldestRevision\": 1"), "{history}");
    assert_eq!(new.segue(&["undo"]).await.code, 0);
    assert_eq!(world.segue(&["undo"]).await.code, 0);
    let routes = ["get", "routes", "-o", "yaml"];
    let without_times = |run: Run| {
        let lines = run.out.lines().filter(|line| !line.contains("Timestamp"));
        lines.map(str::to_owned).collect::<Vec<String>>()
    };
    assert_eq!(without_times(new.segue(&routes).await), without_times(world.segue(&routes).await));
}

#[tokio::test]
async fn increments_can_follow_later_and_only_in_order() {
    let (world, [full, second, third]) = chain().await;
    let new = World::new().await;
    assert_eq!(restore(&new, &[&full]).await.code, 0);
    let run = restore(&new, &[&third]).await;
    assert_eq!(run.code, 1);
    assert!(run.err.contains("expected revision 2, found 1"), "{}", run.err);
    let run = restore(&new, &[&third, &second]).await;
    assert_eq!(run.code, 2);
    assert!(run.err.contains("does not go on where"), "{}", run.err);
    assert_eq!(restore(&new, &[&second]).await.code, 0);
    assert_eq!(restore(&new, &[&third]).await.code, 0);
    assert_eq!(all(&new).await, all(&world).await);
}

#[tokio::test]
async fn a_store_that_holds_something_takes_no_full_backup() {
    let (world, [full, _, _]) = chain().await;
    let before = all(&world).await;
    let run = restore(&world, &[&full]).await;
    assert_eq!(run.code, 1);
    assert!(run.err.contains("the store is not empty: it holds revision 3"), "{}", run.err);
    assert_eq!(all(&world).await, before);
}

#[tokio::test]
async fn a_file_that_was_cut_anywhere_restores_nothing() {
    let (_world, [full, second, _]) = chain().await;
    let new = World::new().await;
    for file in [full, second] {
        let whole = std::fs::read(&file).unwrap();
        for length in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
            let cut = new.directory.path().join("cut");
            std::fs::write(&cut, &whole[..length]).unwrap();
            let run = restore(&new, &[cut.to_str().unwrap()]).await;
            assert_eq!(run.code, 1, "{length} bytes of {}: {run:?}", whole.len());
            assert!(run.err.contains("nothing was restored"), "{}", run.err);
        }
    }
    assert_empty(&new).await;
}

#[tokio::test]
async fn a_file_with_any_flipped_bit_restores_nothing() {
    let (_world, [full, _, _]) = chain().await;
    let new = World::new().await;
    let whole = std::fs::read(&full).unwrap();
    for place in (0..whole.len()).step_by(3) {
        let mut flipped = whole.clone();
        flipped[place] ^= 1 << (place % 8);
        let file = new.directory.path().join("flipped");
        std::fs::write(&file, &flipped).unwrap();
        let run = restore(&new, &[file.to_str().unwrap()]).await;
        assert_eq!(run.code, 1, "byte {place}: {run:?}");
    }
    assert_empty(&new).await;
}

#[tokio::test]
async fn a_backup_is_private_and_replaces_no_file() {
    let (world, [full, _, _]) = chain().await;
    let mode = std::fs::metadata(&full).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let before = std::fs::read(&full).unwrap();
    let run = world.segue(&["backup", "-o", &full]).await;
    assert_eq!(run.code, 2);
    assert!(run.err.contains("exists already"), "{}", run.err);
    assert_eq!(std::fs::read(&full).unwrap(), before);
    let left: Vec<_> = std::fs::read_dir(world.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "part"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn nothing_new_is_a_backup_too() {
    let (world, _) = chain().await;
    let idle = backup(&world, &["--since", "3"], "idle").await;
    let run = restore(&world, &[&idle]).await;
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("from revision 3 to 3, 0 commits"), "{}", run.out);
}

#[tokio::test]
async fn a_revision_that_is_not_there_is_no_beginning() {
    let (world, _) = chain().await;
    let run = world.segue(&["backup", "--since", "9", "-o", "-"]).await;
    assert_eq!(run.code, 1);
    assert!(run.err.contains("revision 9 is not kept"), "{}", run.err);
}

#[tokio::test]
async fn without_a_terminal_nobody_is_asked() {
    let (_world, [full, _, _]) = chain().await;
    let new = World::new().await;
    let run = new.segue(&["restore", &full]).await;
    assert_eq!(run.code, 2);
    assert!(run.err.contains("--yes"), "{}", run.err);
    assert_empty(&new).await;
}
