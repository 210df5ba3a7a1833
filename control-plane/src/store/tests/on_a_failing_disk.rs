//! The redb store when the disk fails.

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
