//! The file of the redb store.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[tokio::test]
async fn a_reopened_store_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path(), 10).unwrap();
    store.commit(put(1, &[("a", "v1")])).await.unwrap();
    store.commit(put(2, &[("a", "v2")])).await.unwrap();
    let before = (store.load().await.unwrap(), store.history(None, 10).await.unwrap());
    drop(store);
    let store = RedbStore::open(directory.path(), 10).unwrap();
    let after = (store.load().await.unwrap(), store.history(None, 10).await.unwrap());
    assert_eq!(before, after);
    assert_eq!(*store.watch().borrow(), Revision(2));
    assert_eq!(store.commit(put(3, &[("a", "v3")])).await.unwrap(), Revision(3));
}

#[tokio::test]
async fn a_dropped_call_is_still_committed_whole() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path(), 10).unwrap();
    let mut watch = store.watch();
    drop(store.commit(put(1, &[("a", "v1")])));
    watch.changed().await.unwrap();
    assert_eq!(store.load().await.unwrap().revision, Revision(1));
}

#[test]
fn only_its_owner_reads_it() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("data");
    let _store = RedbStore::open(&directory, 10).unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("segue.redb")), 0o600);
}

#[test]
fn a_second_process_is_told_that_it_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let _first = RedbStore::open(directory.path(), 10).unwrap();
    let error = RedbStore::open(directory.path(), 10).err().unwrap();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
}

#[test]
fn of_those_that_begin_at_one_time_one_gets_it() {
    for _ in 0..4 {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("data");
        let start = std::sync::Barrier::new(4);
        let open = || {
            start.wait();
            RedbStore::open(&directory, 10)
        };
        // All of them are kept to the end: what one closes another one may have.
        let opened: Vec<Result<RedbStore, StoreError>> = std::thread::scope(|scope| {
            let all = [(); 4].map(|()| scope.spawn(open));
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(opened.iter().filter(|one| one.is_ok()).count(), 1);
        for error in opened.iter().filter_map(|one| one.as_ref().err()) {
            assert!(matches!(error, StoreError::InUse { .. }), "{error}");
        }
    }
}

#[test]
fn a_file_of_a_newer_release_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    drop(RedbStore::open(directory.path(), 10).unwrap());
    let table: ::redb::TableDefinition<&str, u64> = ::redb::TableDefinition::new("meta");
    let database = ::redb::Database::open(directory.path().join("segue.redb")).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(table).unwrap().insert("format", 2).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = RedbStore::open(directory.path(), 10).err().unwrap().to_string();
    assert!(error.contains("newer release (format 2, this release knows 1)"), "{error}");
}

#[test]
fn a_damaged_file_is_refused_not_trusted() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("segue.redb"), vec![7; 4096]).unwrap();
    let error = RedbStore::open(directory.path(), 10).err().unwrap();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
}
