//! Follows the snapshot that requests run on: probes the endpoints of clusters that say how, and
//! sweeps those that eject.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use segue_shared::shutdown::DrainSignal;
use segue_sidecar_core::health::Probed;
use segue_sidecar_core::snapshot::{Cluster, Probe};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::probe::{Reach, probe};
use crate::snapshot_handle::SnapshotHandle;
use crate::tls::Mesh;
use crate::vitals::{ClusterVitals, EndpointVitals, Vitals};

/// Between looks at the clock of each cluster, so that an interval is met within a tenth of a
/// second.
const TICK: Duration = Duration::from_millis(100);
/// Probes at one time, of all clusters.
const MOST_PROBES: usize = 256;

/// Watches over the endpoints until `stop`.
pub async fn watch(snapshots: SnapshotHandle, vitals: Arc<Vitals>, mesh: Mesh, stop: DrainSignal) {
    let mut watched = Watched { vitals, mesh, clusters: HashMap::new(), slots: slots() };
    let mut swaps = snapshots.swaps();
    loop {
        swaps.borrow_and_update();
        let snapshot = snapshots.load();
        watched.follow(snapshot.clusters.iter());
        let ticking = async {
            // Nothing is swept where nothing is watched.
            if watched.clusters.is_empty() {
                std::future::pending::<()>().await;
            }
            loop {
                tokio::time::sleep(TICK).await;
                watched.sweep();
            }
        };
        tokio::select! {
            changed = swaps.changed() => if changed.is_err() { return },
            () = ticking => {}
            () = stop.cancelled() => return,
        }
    }
}

fn slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MOST_PROBES))
}

struct Watched {
    vitals: Arc<Vitals>,
    mesh: Mesh,
    clusters: HashMap<Arc<str>, WatchedCluster>,
    slots: Arc<Semaphore>,
}

struct WatchedCluster {
    cluster: Arc<Cluster>,
    vitals: Arc<ClusterVitals>,
    /// Ends with its entry.
    probing: HashMap<SocketAddr, AbortOnDropHandle<()>>,
}

impl Watched {
    fn follow<'a>(&mut self, clusters: impl Iterator<Item = &'a Arc<Cluster>>) {
        let mut before = std::mem::take(&mut self.clusters);
        for cluster in clusters {
            let Some(vitals) = self.vitals.cluster(cluster) else { continue };
            let known = before.remove(&cluster.name);
            let next = match known {
                Some(known) if Arc::ptr_eq(&known.cluster, cluster) => known,
                known => self.next(cluster, vitals, known),
            };
            self.clusters.insert(Arc::clone(&cluster.name), next);
        }
        self.vitals.retain(|name| self.clusters.contains_key(name));
    }

    fn next(
        &self,
        cluster: &Arc<Cluster>,
        vitals: Arc<ClusterVitals>,
        known: Option<WatchedCluster>,
    ) -> WatchedCluster {
        let same = known.as_ref().is_some_and(|it| {
            it.cluster.traffic.probe == cluster.traffic.probe && it.cluster.tls == cluster.tls
        });
        let mut running = known.filter(|_| same).map(|it| it.probing).unwrap_or_default();
        let mut probing = HashMap::new();
        if let Some(with) = &cluster.traffic.probe {
            for address in cluster.endpoints.iter().map(|endpoint| endpoint.address) {
                let task = running.remove(&address).unwrap_or_else(|| {
                    let endpoint = vitals.endpoint(address, true);
                    let (with, vitals) = (with.clone(), Arc::clone(&vitals));
                    let (tls, mesh) = (cluster.tls.clone(), self.mesh.clone());
                    let reach = Reach { address, tls, mesh };
                    let task = probe_on(reach, with, vitals, endpoint, Arc::clone(&self.slots));
                    AbortOnDropHandle::new(tokio::spawn(task))
                });
                probing.insert(address, task);
            }
        }
        WatchedCluster { cluster: Arc::clone(cluster), vitals, probing }
    }

    fn sweep(&self) {
        for watched in self.clusters.values() {
            watched.vitals.sweep(&watched.cluster);
        }
    }
}

/// Probes one endpoint again and again.
async fn probe_on(
    reach: Reach,
    with: Probe,
    vitals: Arc<ClusterVitals>,
    endpoint: Arc<EndpointVitals>,
    slots: Arc<Semaphore>,
) {
    let mut known = Probed::default();
    loop {
        let found = {
            let Ok(_slot) = slots.acquire().await else { return };
            probe(&with.kind, &reach, with.timeout).await
        };
        if let Err(error) = &found {
            debug!(address = %reach.address, %error, "a probe does not pass");
        }
        known = known.and(found.is_ok(), with.thresholds);
        vitals.probed(&endpoint, known.is_healthy());
        tokio::time::sleep(with.interval).await;
    }
}
