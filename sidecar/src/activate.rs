//! Warm → publish → retire: how a linked snapshot becomes the one that requests run on.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use segue_shared::ids::Revision;
use segue_sidecar_core::reject::Reject;
use segue_sidecar_core::snapshot::{Cluster, CompiledSnapshot};
use tokio::time::Instant;

use crate::snapshot_handle::SnapshotHandle;

/// All warming before one swap together.
const WARM_TIME: Duration = Duration::from_secs(2);
/// Clusters warmed at one time.
const WARM_AT_ONCE: usize = 64;

/// Readies a cluster for its first request.
pub trait Warm: Send + Sync + 'static {
    /// Connects to one endpoint and keeps or drops the connection; whether it came about. Bounded
    /// by the caller with the cluster's connect timeout.
    fn warm(&self, cluster: &Arc<Cluster>) -> impl Future<Output = bool> + Send;
}

/// Readies nothing.
impl Warm for () {
    async fn warm(&self, _: &Arc<Cluster>) -> bool {
        true
    }
}

/// What the control plane is told about the configuration of this sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryState {
    /// Newest revision of which every resource was taken.
    pub accepted_revision: Revision,
    /// Newest revision that requests run on, of those accepted.
    pub activated_revision: Revision,
    /// Refused resources, whose last good versions serve on.
    pub rejections: Vec<Rejection>,
    /// What the newest configuration still waits for; empty once it is activated.
    pub waiting_for: Vec<String>,
}

/// A refused resource and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reject: Reject,
    /// The revision of the first mark after it; `None` before that.
    pub revision: Option<Revision>,
}

/// The latest time at which a snapshot that begins to warm now is swapped in.
pub fn warm_deadline() -> Instant {
    Instant::now() + WARM_TIME
}

/// Warms what is new in `next` until the deadline at most, then swaps. May be dropped at any await:
/// the swap is the last step. A snapshot that supersedes one still warming keeps its deadline, so
/// that steady change never puts off the swap.
pub async fn activate(
    handle: &SnapshotHandle,
    warm: &impl Warm,
    mut next: CompiledSnapshot,
    deadline: Instant,
) {
    let current = handle.load();
    let cold = cold_clusters(&current, &next);
    let total = cold.len();
    let warming = stream::iter(cold)
        .map(|cluster| async move {
            let warmed = tokio::time::timeout(cluster.connect_timeout, warm.warm(&cluster)).await;
            if warmed != Ok(true) {
                tracing::warn!(cluster = %cluster.name, "no endpoint answers yet");
            }
        })
        .buffer_unordered(WARM_AT_ONCE)
        .for_each(|()| async {});
    if tokio::time::timeout_at(deadline, warming).await.is_err() {
        tracing::warn!(clusters = total, limit = ?WARM_TIME, "not all new clusters were warmed");
    }
    next.generation = current.generation + 1;
    tracing::info!(
        generation = next.generation,
        revision = next.revision.map(|revision| revision.0),
        clusters = next.clusters.len(),
        warmed = total,
        "snapshot activated"
    );
    handle.publish(next);
}

/// Clusters with endpoints that had none before, or were not there. Old ones keep their connections,
/// and those that are gone drain in the pools as their requests end.
fn cold_clusters(current: &CompiledSnapshot, next: &CompiledSnapshot) -> Vec<Arc<Cluster>> {
    let served = |name: &str| {
        let index = current.clusters.index_of(name)?;
        current.clusters.get(index).filter(|cluster| !cluster.endpoints.is_empty())
    };
    next.clusters
        .iter()
        .filter(|cluster| !cluster.endpoints.is_empty() && served(&cluster.name).is_none())
        .map(Arc::clone)
        .collect()
}
