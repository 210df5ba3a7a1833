//! The one loop from changes to snapshots: configuration and discovery in, snapshot cache out.

use std::sync::Arc;
use std::time::Duration;

use segue_control_plane_core::config::mesh::MeshConfig;
use segue_shared::shutdown::DrainSignal;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::discovery::{self, Discovery};
use crate::fleet::Fleet;
use crate::xds::{SnapshotCache, Streams};

/// Changes that come within this time after a publication are published together.
const BURST: Duration = Duration::from_millis(100);
/// The longest such time, however busy the streams are.
const LONGEST_BURST: Duration = Duration::from_secs(1);

/// Publishes what changes. A change after a quiet time goes out at once; of a burst, the newest
/// state goes out every 100 ms. Where so many streams take longer to be served, it goes out when
/// they have been, and had as long again for the answers, but once a second at least: what comes
/// between is skipped for all of them alike, and compiled and encoded for none.
#[derive(Debug)]
pub struct Publisher {
    config: watch::Receiver<Arc<MeshConfig>>,
    discovery: Discovery,
    cache: SnapshotCache,
    fleet: Fleet,
    streams: Streams,
}

impl Publisher {
    /// `config` is what the store holds, from its present state on.
    pub fn new(
        config: watch::Receiver<Arc<MeshConfig>>,
        cache: SnapshotCache,
        fleet: Fleet,
        streams: Streams,
        settings: discovery::Settings,
    ) -> Self {
        Self { config, discovery: Discovery::new(settings), cache, fleet, streams }
    }

    /// Runs until the drain signal, or until the store's side is gone. A configuration with new
    /// DNS names waits for their first answers (5 s at most): a version without endpoints would
    /// fail requests, a late one does not.
    pub async fn run(mut self, drain: DrainSignal) {
        tokio::select! {
            () = self.publish_changes() => {}
            () = drain.cancelled() => {}
        }
    }

    async fn publish_changes(&mut self) {
        loop {
            let config = Arc::clone(&self.config.borrow_and_update());
            self.discovery.follow(&config);
            self.discovery.asked().await;
            self.publish(Arc::clone(&config)).await;
            self.fleet.published(config);
            let burst = self.burst().await;
            tokio::select! {
                changed = self.config.changed() => if changed.is_err() { return },
                () = self.discovery.changed() => {}
            }
            // After a quiet time this has passed already.
            sleep_until(burst).await;
        }
    }

    /// The end of the burst that began with a publication just now.
    async fn burst(&self) -> Instant {
        let begin = Instant::now();
        let _ = timeout(LONGEST_BURST, self.streams.caught_up()).await;
        begin + (begin.elapsed() * 2).clamp(BURST, LONGEST_BURST)
    }

    /// Compiles on a thread of its own: streams go on meanwhile.
    async fn publish(&mut self, config: Arc<MeshConfig>) {
        let (cache, endpoints) = (self.cache.clone(), self.discovery.endpoints());
        let published = tokio::task::spawn_blocking(move || cache.publish(config, endpoints)).await;
        if let Err(error) = published {
            tracing::error!(%error, "a publication broke: streams keep what they have");
        }
    }
}

#[cfg(test)]
mod tests;
