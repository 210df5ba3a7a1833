//! What a process begins with: the last good resources on the disk, and what DNS says of their names.

use std::time::Duration;

use tokio::time::timeout;

use super::Follower;
use crate::activate::{Warm, activate, warm_deadline};
use crate::dns::Resolved;
use crate::snapshot_file::{self, SavedResource};
use crate::xds::inbox::Stored;

/// Time for the names in what the disk holds; those that are not answered by then have no addresses
/// at first.
const NAMES_TIMEOUT: Duration = Duration::from_secs(2);

impl<W: Warm> Follower<W> {
    /// Activates what the disk holds.
    pub(in crate::xds) async fn restore(&mut self) {
        let Some(data_dir) = self.settings.data_dir.clone() else { return };
        let read = move || snapshot_file::load(&data_dir);
        let saved = match blocking(read).await {
            Some(Ok(Some(saved))) => saved,
            Some(Ok(None)) | None => return,
            Some(Err(error)) => return tracing::error!(%error, "no last good snapshot"),
        };
        let resources = saved.resources.into_iter().map(|resource| {
            let SavedResource { type_url, name, version, value } = resource;
            (type_url, name, Stored { version: version.into(), bytes: value.into(), came: None })
        });
        self.inbox.restore(resources.collect());
        self.ask_restored().await;
        let Some(snapshot) = self.inbox.link_restored() else { return };
        let revision = snapshot.revision;
        activate(&self.handle, &*self.warm, snapshot, warm_deadline()).await;
        tracing::info!(revision = revision.map(|it| it.0), "the last good snapshot serves");
        self.told.status.send_modify(|status| status.has_snapshot = true);
        if let Some(revision) = revision {
            self.told.delivery.send_modify(|state| {
                state.accepted_revision = revision;
                state.activated_revision = revision;
            });
        }
    }
    /// Asks for the names in what was restored, until each was answered or its time is over.
    async fn ask_restored(&mut self) {
        let wanted = self.inbox.wanted_names();
        self.names.follow(&wanted);
        let mut open: Vec<_> = wanted.into_keys().collect();
        let all = async {
            while !open.is_empty() {
                let resolved = self.names.step().await;
                open.retain(|query| *query != resolved.query);
                self.take_addresses(resolved);
            }
        };
        if timeout(NAMES_TIMEOUT, all).await.is_err() {
            tracing::warn!("some names of the last good snapshot have no addresses yet");
        }
    }

    /// Takes what became of a lookup.
    pub(super) fn take_addresses(&mut self, resolved: Resolved) {
        let Resolved { query, addresses } = resolved;
        self.inbox.resolved(&query, addresses);
        let dns = self.names.status();
        // Nobody waits for these counts.
        self.told.status.send_if_modified(|status| {
            status.dns = dns;
            false
        });
    }
}

/// Work on the disk, off this runtime's thread. `None` where it panicked.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(error) => {
            tracing::error!(%error, "work on the snapshot file broke off");
            None
        }
    }
}
