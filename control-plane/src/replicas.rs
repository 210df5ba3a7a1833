//! Control planes on one store tell each other where their nodes stand, so that each of them can
//! answer for the whole fleet.

use std::time::Duration;

use segue_shared::backoff::Backoff;
use segue_shared::shutdown::DrainSignal;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::fleet::{Fleet, ReplicaId, Summary};
use crate::store::{EtcdStore, News, Note, StoreError};

/// Least time between two notes.
const PACE: Duration = Duration::from_millis(250);
/// Bytes of notes a second: etcd remembers each of them for some minutes.
const BYTES_A_SECOND: u32 = 128 * 1024;
/// Pause after a note that could not be written.
const RETRY: Duration = Duration::from_secs(1);
/// Time to take the note away at the end.
const REMOVE_MOST: Duration = Duration::from_secs(1);

/// This control plane among those on its store.
pub struct Replica {
    fleet: Fleet,
    store: EtcdStore,
    name: String,
    note: Note,
}

impl Replica {
    /// One that has not told or heard anything; people find it by its name.
    pub fn new(fleet: Fleet, store: EtcdStore, name: String) -> Result<Self, StoreError> {
        let note = store.note()?;
        fleet.hears_nothing();
        Ok(Self { fleet, store, name, note })
    }

    /// Tells and hears until the drain signal. Then the nodes go on to the others, who expect them
    /// as soon as the note is gone: so it goes at once, as it was.
    pub async fn run(mut self, drain: DrainSignal) {
        let own = self.note.id();
        tokio::select! {
            biased;
            () = drain.cancelled() => {}
            () = tell(&self.fleet, &self.name, &mut self.note) => {}
            () = hear(&self.fleet, &self.store, own) => {}
        }
        if timeout(REMOVE_MOST, self.note.remove()).await.is_err() {
            tracing::debug!("the note of this control plane is left to run out");
        }
    }
}

/// Writes what is news, a few times a second at most, and keeps it alive. Without end.
async fn tell(fleet: &Fleet, name: &str, note: &mut Note) {
    let mut changed = fleet.changed();
    let mut told: Option<Summary> = None;
    let mut failed = false;
    loop {
        changed.mark_unchanged();
        let summary = fleet.summary(name);
        if note.is_gone() || told.as_ref() != Some(&summary) {
            let bytes = summary.encode();
            let pause = pace(bytes.len());
            match note.write(bytes).await {
                Ok(()) => {
                    told = Some(summary);
                    failed = false;
                    rest(note, pause).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut failed, true) {
                        tracing::warn!(%error, "others are not told of the sidecars here");
                    }
                    told = None;
                    sleep(RETRY).await;
                }
            }
        }
        if Instant::now() >= note.renew_at() {
            note.renew().await;
        }
        if !note.is_gone() && told.is_some() {
            tokio::select! {
                // The sender lives as long as the fleet.
                _ = changed.changed() => {}
                () = sleep_until(note.renew_at()) => {}
            }
        }
    }
}

/// Pauses, and keeps the note alive meanwhile.
async fn rest(note: &mut Note, pause: Duration) {
    let over = Instant::now() + pause;
    while Instant::now() < over {
        sleep_until(over.min(note.renew_at())).await;
        if Instant::now() >= note.renew_at() {
            note.renew().await;
        }
    }
}

/// The pause after a note of so many bytes.
fn pace(bytes: usize) -> Duration {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    PACE.max(Duration::from_secs(1) * bytes / BYTES_A_SECOND)
}

/// Takes what the others tell. Without end.
async fn hear(fleet: &Fleet, store: &EtcdStore, own: ReplicaId) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let error = match follow(fleet, store, own, &mut backoff).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        tracing::debug!(%error, "others are not heard");
        fleet.hears_nothing();
        sleep(backoff.next_pause(0.5)).await;
    }
}

async fn follow(
    fleet: &Fleet,
    store: &EtcdStore,
    own: ReplicaId,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, StoreError> {
    let (all, mut notes) = store.notes().await?;
    let others = all.into_iter().filter(|(id, _)| *id != own);
    fleet.hears(others.filter_map(|(id, text)| Some((id, read(&text)?))).collect());
    backoff.reset();
    loop {
        match notes.next().await? {
            News::Written(id, text) if id != own => {
                if let Some(summary) = read(&text) {
                    fleet.heard(id, summary);
                }
            }
            News::Gone(id) if id != own => fleet.lost(id),
            News::Written(..) | News::Gone(_) => {}
        }
    }
}

fn read(text: &[u8]) -> Option<Summary> {
    Summary::decode(text)
        .inspect_err(|error| tracing::warn!(%error, "the note of a control plane is not read"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_notes_are_rare() {
        assert_eq!(pace(0), Duration::from_millis(250));
        assert_eq!(pace(32 * 1024), Duration::from_millis(250));
        assert_eq!(pace(1024 * 1024), Duration::from_secs(8));
    }
}
