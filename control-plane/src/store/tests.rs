//! One suite that every store passes.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use segue_control_plane_core::config::{Kind, ResourceKey};
use segue_proto::config::v1::resource::Resource as Body;
use segue_proto::config::v1::{ObjectMeta, Resource, Service, ServiceSpec};
use segue_shared::ids::Revision;

use super::*;

/// A store and what it is called in messages.
type Named = (&'static str, Arc<dyn Store>);

/// Every kind of store, empty; the directories live as long as the stores.
fn stores(retention: usize) -> (Vec<Named>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let redb = RedbStore::open(&directory.path().join("data"), retention).unwrap();
    let memory = MemoryStore::new(retention);
    (vec![("memory", Arc::new(memory)), ("redb", Arc::new(redb))], directory)
}

fn service(name: &str, default_version: &str) -> Resource {
    let metadata = Some(ObjectMeta { name: name.to_owned(), ..ObjectMeta::default() });
    let spec =
        Some(ServiceSpec { default_version: default_version.to_owned(), ..ServiceSpec::default() });
    Resource { resource: Some(Body::Service(Service { metadata, spec, ..Service::default() })) }
}

fn key(name: &str) -> ResourceKey {
    ResourceKey::new(Kind::Service, "default", name)
}

fn second(n: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(n)
}

fn put(n: u64, resources: &[(&str, &str)]) -> Commit {
    Commit {
        expected: None,
        upserts: resources.iter().map(|(name, version)| service(name, version)).collect(),
        deletes: Vec::new(),
        author: "alice".to_owned(),
        message: format!("commit {n}"),
        at: second(n),
    }
}

fn remove(n: u64, names: &[&str]) -> Commit {
    Commit { deletes: names.iter().map(|name| key(name)).collect(), ..put(n, &[]) }
}

/// Names and versions.
fn summary(resources: &[StoredResource]) -> Vec<(String, String)> {
    resources
        .iter()
        .map(|stored| match &stored.resource.resource {
            Some(Body::Service(service)) => {
                (stored.key.name.clone(), service.spec.clone().unwrap().default_version)
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[tokio::test]
async fn an_empty_store_is_at_revision_zero() {
    let (stores, _directory) = stores(10);
    for (name, store) in stores {
        assert_eq!(store.load().await.unwrap(), StoredConfiguration::default(), "{name}");
        assert_eq!(store.history(None, 10).await.unwrap(), History::default(), "{name}");
        assert_eq!(*store.watch().borrow(), Revision::NONE);
        assert_eq!(store.at(Revision::NONE).await.unwrap().listed(), vec![]);
    }
}

#[tokio::test]
async fn a_batch_is_one_revision_and_watchers_hear_of_it() {
    let (stores, _directory) = stores(10);
    for (name, store) in stores {
        let mut watch = store.watch();
        let revision = store.commit(put(1, &[("b", "v1"), ("a", "v1")])).await.unwrap();
        assert_eq!(revision, Revision(1), "{name}");
        watch.changed().await.unwrap();
        assert_eq!(*watch.borrow(), Revision(1));
        let found = store.load().await.unwrap();
        let (revision, resources) = (found.revision, found.listed());
        assert_eq!(revision, Revision(1));
        assert_eq!(summary(&resources), pairs(&[("a", "v1"), ("b", "v1")]), "{name}");
    }
}

#[tokio::test]
async fn a_resource_remembers_when_it_was_made_and_last_changed() {
    let (stores, _directory) = stores(10);
    for (name, store) in stores {
        store.commit(put(1, &[("a", "v1"), ("b", "v1")])).await.unwrap();
        store.commit(put(2, &[("a", "v2"), ("b", "v1")])).await.unwrap();
        let resources = store.load().await.unwrap().listed();
        let at =
            |i: usize| (resources[i].revision, resources[i].created_at, resources[i].changed_at);
        assert_eq!(at(0), (Revision(2), second(1), second(2)), "{name}");
        assert_eq!(at(1), (Revision(1), second(1), second(1)), "{name}");
    }
}

#[tokio::test]
async fn a_batch_that_changes_nothing_is_no_revision() {
    let (stores, _directory) = stores(10);
    for (name, store) in stores {
        store.commit(put(1, &[("a", "v1")])).await.unwrap();
        let again = store.commit(put(2, &[("a", "v1")])).await.unwrap();
        let absent = store.commit(remove(3, &["z"])).await.unwrap();
        assert_eq!((again, absent), (Revision(1), Revision(1)), "{name}");
        assert_eq!(store.history(None, 10).await.unwrap().revisions.len(), 1);
    }
}

#[tokio::test]
async fn a_stale_base_is_a_conflict_and_changes_nothing() {
    let (stores, _directory) = stores(10);
    for (name, store) in stores {
        store.commit(put(1, &[("a", "v1")])).await.unwrap();
        let stale = Commit { expected: Some(Revision::NONE), ..put(2, &[("a", "v2")]) };
        let error = store.commit(stale).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Conflict { expected: Revision(0), found: Revision(1) }),
            "{name}: {error}"
        );
        assert_eq!(summary(&store.load().await.unwrap().listed()), pairs(&[("a", "v1")]));
        let good = Commit { expected: Some(Revision(1)), ..put(3, &[("a", "v3")]) };
        assert_eq!(store.commit(good).await.unwrap(), Revision(2), "{name}");
    }
}

#[tokio::test]
async fn of_commits_on_one_base_exactly_one_wins() {
    let (stores, _directory) = stores(10);
    for (name, store) in stores {
        let races = (0..8).map(|n| {
            let version = format!("v{n}");
            let batch = put(n, &[("a", &version)]);
            store.commit(Commit { expected: Some(Revision::NONE), ..batch })
        });
        let results = futures_util::future::join_all(races).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_batch_with_a_nameless_resource_leaves_no_trace() {
    let (stores, _directory) = stores(10);
    for (name, store) in stores {
        let error = store.commit(put(1, &[("a", "v1"), ("", "v1")])).await.unwrap_err();
        assert!(matches!(error, StoreError::Nameless), "{name}: {error}");
        assert_eq!(store.load().await.unwrap(), StoredConfiguration::default());
        assert_eq!(store.commit(put(2, &[("a", "v1")])).await.unwrap(), Revision(1));
    }
}

#[tokio::test]
async fn every_kept_revision_can_be_read() {
    let (stores, _directory) = stores(10);
    for (name, store) in stores {
        store.commit(put(1, &[("a", "v1"), ("b", "v1")])).await.unwrap();
        store.commit(put(2, &[("a", "v2")])).await.unwrap();
        store.commit(remove(3, &["b"])).await.unwrap();
        store.commit(put(4, &[("b", "v9")])).await.unwrap();
        let expected: [&[(&str, &str)]; 5] = [
            &[],
            &[("a", "v1"), ("b", "v1")],
            &[("a", "v2"), ("b", "v1")],
            &[("a", "v2")],
            &[("a", "v2"), ("b", "v9")],
        ];
        for (revision, expected) in (0..).zip(expected) {
            let then = store.at(Revision(revision)).await.unwrap().listed();
            assert_eq!(summary(&then), pairs(expected), "{name} at {revision}");
        }
        let error = store.at(Revision(5)).await.unwrap_err();
        assert!(matches!(error, StoreError::NotKept { .. }), "{name}: {error}");
    }
}

#[tokio::test]
async fn the_history_says_who_why_and_what() {
    let (stores, _directory) = stores(10);
    for (name, store) in stores {
        store.commit(put(1, &[("a", "v1"), ("b", "v1")])).await.unwrap();
        let mixed = Commit { deletes: vec![key("b")], ..put(2, &[("a", "v2"), ("c", "v1")]) };
        store.commit(mixed).await.unwrap();
        let history = store.history(None, 10).await.unwrap();
        let newest = &history.revisions[0];
        assert_eq!((newest.revision, newest.at), (Revision(2), second(2)), "{name}");
        assert_eq!((newest.author.as_str(), newest.message.as_str()), ("alice", "commit 2"));
        let changes: Vec<_> =
            newest.changes.iter().map(|change| (change.key.name.as_str(), change.kind)).collect();
        let expected =
            [("a", ChangeKind::Configured), ("b", ChangeKind::Deleted), ("c", ChangeKind::Created)];
        assert_eq!(changes, expected, "{name}");
        let below = store.history(Some(Revision(2)), 10).await.unwrap();
        assert_eq!(below.revisions.len(), 1, "{name}");
        assert_eq!(below.revisions[0].revision, Revision(1));
        assert_eq!(store.history(None, 1).await.unwrap().revisions.len(), 1);
    }
}

#[tokio::test]
async fn the_history_is_bounded_and_says_where_it_begins() {
    let (stores, _directory) = stores(3);
    for (name, store) in stores {
        for n in 1..=9 {
            store.commit(put(n, &[("a", &format!("v{n}"))])).await.unwrap();
        }
        let history = store.history(None, 100).await.unwrap();
        let revisions: Vec<u64> = history.revisions.iter().map(|past| past.revision.0).collect();
        assert_eq!((revisions, history.oldest), (vec![9, 8, 7], Revision(6)), "{name}");
        let oldest = store.at(Revision(6)).await.unwrap().listed();
        assert_eq!(summary(&oldest), pairs(&[("a", "v6")]), "{name}");
        assert!(matches!(
            store.at(Revision(5)).await,
            Err(StoreError::NotKept { oldest: Revision(6), newest: Revision(9), .. })
        ));
    }
}

mod on_disk {
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
}

mod on_a_failing_disk {
    use std::io;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use ::redb::backends::InMemoryBackend;
    use ::redb::{Database, StorageBackend};

    use super::*;

    /// A disk whose syncs fail while it is told so.
    #[derive(Clone, Debug)]
    struct Disk {
        memory: Arc<InMemoryBackend>,
        fails: Arc<AtomicBool>,
    }

    impl StorageBackend for Disk {
        fn len(&self) -> Result<u64, io::Error> {
            self.memory.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
            self.memory.read(offset, out)
        }

        fn set_len(&self, len: u64) -> Result<(), io::Error> {
            self.memory.set_len(len)
        }

        fn sync_data(&self) -> Result<(), io::Error> {
            if self.fails.load(Ordering::Relaxed) {
                return Err(io::Error::other("the disk is gone"));
            }
            self.memory.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
            self.memory.write(offset, data)
        }
    }

    #[tokio::test]
    async fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
        let disk = Disk { memory: Arc::default(), fails: Arc::default() };
        let database = Database::builder().create_with_backend(disk.clone()).unwrap();
        super::super::redb::prepare(&database).unwrap();
        let store = RedbStore::on(database, None, Path::new("memory"), 10).unwrap();
        store.commit(put(1, &[("a", "v1")])).await.unwrap();

        disk.fails.store(true, Ordering::Relaxed);
        let error = store.commit(put(2, &[("a", "v2")])).await.unwrap_err();
        assert!(matches!(&error, StoreError::Failed(_)), "{error}");
        // A second sync may succeed without having written what the first one lost.
        disk.fails.store(false, Ordering::Relaxed);
        let error = store.commit(put(3, &[("a", "v3")])).await.unwrap_err();
        assert!(matches!(&error, StoreError::Stopped(_)), "{error}");
        assert_eq!(*store.watch().borrow(), Revision(1));
    }
}
