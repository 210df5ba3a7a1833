//! The one loop from changes to snapshots: configuration and discovery in, snapshot cache out.

use std::sync::Arc;
use std::time::Duration;

use segue_control_plane_core::config::mesh::MeshConfig;
use segue_shared::shutdown::DrainSignal;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::discovery::{self, Discovery};
use crate::fleet::{Fleet, Gate, Refused, Rejection};
use crate::xds::{SnapshotCache, Streams, Withheld};

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
    withheld: watch::Receiver<Vec<Withheld>>,
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
        let withheld = cache.withheld();
        Self { config, discovery: Discovery::new(settings), cache, fleet, streams, withheld }
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
            self.publish(config).await;
            let burst = self.burst().await;
            if !self.changed().await {
                return;
            }
            // After a quiet time this has passed already.
            sleep_until(burst).await;
        }
    }

    /// Waits until there is something to publish. `false` where there never will be.
    async fn changed(&mut self) -> bool {
        loop {
            tokio::select! {
                changed = self.config.changed() => return changed.is_ok(),
                () = self.discovery.changed() => return true,
                // A kind of node came that cannot be sent what the others got.
                Ok(()) = self.withheld.changed() => self.tell_withheld(),
            }
        }
    }

    /// The end of the burst that began with a publication just now.
    async fn burst(&self) -> Instant {
        let begin = Instant::now();
        let _ = timeout(LONGEST_BURST, self.streams.caught_up()).await;
        begin + (begin.elapsed() * 2).clamp(BURST, LONGEST_BURST)
    }

    /// Compiles on a thread of its own: streams go on meanwhile. The fleet is told what nodes are
    /// really offered, and what not.
    async fn publish(&mut self, config: Arc<MeshConfig>) {
        let (cache, endpoints) = (self.cache.clone(), self.discovery.endpoints());
        let compiled = Arc::clone(&config);
        let published = tokio::task::spawn_blocking(move || cache.publish(compiled, endpoints));
        match published.await {
            Ok(offered) => {
                if offered {
                    self.fleet.published(config);
                }
                self.tell_withheld();
            }
            Err(error) => {
                tracing::error!(%error, "a publication broke: streams keep what they have");
                let all = Rejection {
                    type_url: String::new(),
                    resource: String::new(),
                    field_path: String::new(),
                    reason: format!("its publication broke: {error}").into(),
                    revision: config.revision,
                };
                let all = Refused::held_back(all, self.fleet.published_revision());
                self.fleet.hold_back(Gate::Compiler, vec![all]);
            }
        }
    }

    fn tell_withheld(&mut self) {
        let withheld = self.withheld.borrow_and_update();
        self.fleet.hold_back(Gate::Compiler, held_back(&withheld));
    }
}

/// What is too large for nodes. Kinds that differ only in their address have the same resources.
fn held_back(withheld: &[Withheld]) -> Vec<Refused> {
    let mut all: Vec<Refused> = Vec::new();
    for Withheld { kind, revision, kept, problems } in withheld {
        for problem in &problems.0 {
            let rejection = Rejection {
                type_url: problem.type_url.to_owned(),
                resource: problem.name.clone(),
                field_path: String::new(),
                reason: format!("for {} it {}", kind.plural(), problem.reason()).into(),
                revision: *revision,
            };
            let held = Refused::held_back(rejection, *kept);
            if !all.iter().any(|known| known.rejection == held.rejection) {
                all.push(held);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests;
