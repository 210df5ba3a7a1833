//! Writes the last good resources to the disk, beside all else.

use std::future::pending;
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::inbox::StoredResources;
use crate::snapshot_file::{self, Saved, SavedResource, SnapshotFileError};

/// Least time between two writes.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// The one writer of the snapshot file. Of what waits for the disk the newest counts.
pub(crate) struct Saver {
    data_dir: Option<PathBuf>,
    unsaved: Option<StoredResources>,
    next: Instant,
    writing: Option<JoinHandle<Result<(), SnapshotFileError>>>,
}

impl Saver {
    /// A writer into a directory, or nowhere.
    pub fn new(data_dir: Option<PathBuf>) -> Self {
        Self { data_dir, unsaved: None, next: Instant::now(), writing: None }
    }

    /// Whether anything is ever written.
    pub fn saves(&self) -> bool {
        self.data_dir.is_some()
    }

    /// Has resources written in place of what still waits.
    pub fn save(&mut self, resources: StoredResources) {
        self.unsaved = Some(resources);
    }

    /// Waits until a write ends or another may begin, and begins it. May be dropped and called
    /// again; never returns where there is nothing to write.
    pub async fn step(&mut self) {
        if let Some(writing) = &mut self.writing {
            let written = writing.await;
            self.writing = None;
            match written {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the last good snapshot is not saved"),
                Err(error) => tracing::error!(%error, "work on the snapshot file broke off"),
            }
        } else if self.unsaved.is_some() {
            sleep_until(self.next).await;
            self.begin();
        } else {
            pending::<()>().await;
        }
    }

    /// Writes what is not on the disk yet, at once.
    pub async fn finish(&mut self) {
        self.next = Instant::now();
        while self.writing.is_some() || (self.unsaved.is_some() && self.saves()) {
            self.step().await;
        }
    }

    fn begin(&mut self) {
        let (Some(resources), Some(data_dir)) = (self.unsaved.take(), self.data_dir.clone()) else {
            return;
        };
        self.next = Instant::now() + SAVE_EVERY;
        let write = move || snapshot_file::store(&data_dir, &saved(&resources));
        self.writing = Some(tokio::task::spawn_blocking(write));
    }
}

fn saved(resources: &StoredResources) -> Saved {
    let all = resources.iter().flat_map(|(type_url, of_type)| {
        of_type.iter().map(|(name, stored)| SavedResource {
            type_url: (*type_url).to_owned(),
            name: name.to_string(),
            version: stored.version.to_string(),
            value: stored.bytes.to_vec(),
        })
    });
    Saved { resources: all.collect() }
}
