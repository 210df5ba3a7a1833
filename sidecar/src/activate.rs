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
    /// Connects to one endpoint and keeps or drops the connection; whether it came about. Where
    /// endpoints are probed, one of them must pass. Bounded by the caller with the cluster's connect
    /// timeout, or the probe's.
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
            let probe = cluster.traffic.probe.as_ref().map_or(Duration::ZERO, |it| it.timeout);
            let limit = cluster.connect_timeout.max(probe);
            let warmed = tokio::time::timeout(limit, warm.warm(&cluster)).await;
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

/// Clusters that routes name now and did not name before, or not with endpoints. Old ones keep their
/// connections, and those that are gone drain in the pools as their requests end. Before the first
/// snapshot nothing serves: to connect to ten thousand clusters would only put off the few that are
/// asked for, and what waits is what must not be picked before a probe has passed.
fn cold_clusters(current: &CompiledSnapshot, next: &CompiledSnapshot) -> Vec<Arc<Cluster>> {
    let first = current.generation == 0;
    let served = |name: &str| {
        current.clusters.routed_by_name(name).is_some_and(|before| !before.endpoints.is_empty())
    };
    next.clusters
        .routed()
        .filter(|cluster| !cluster.endpoints.is_empty() && !served(&cluster.name))
        .filter(|cluster| !first || cluster.traffic.probe.is_some())
        .map(Arc::clone)
        .collect()
}

#[cfg(test)]
mod tests {
    use segue_sidecar_core::health::Thresholds;
    use segue_sidecar_core::snapshot::{ClusterTable, Endpoint, Probe, ProbeKind};

    use super::*;

    fn cluster(name: &str, endpoints: u16) -> Arc<Cluster> {
        let endpoint = |i| Endpoint::new(([127, 0, 0, 1], 9000 + i).into());
        Arc::new(Cluster::new(name.into(), (0..endpoints).map(endpoint).collect()))
    }

    fn snapshot(clusters: &[(&str, u16)], routed: usize) -> CompiledSnapshot {
        let clusters = clusters.iter().map(|(name, endpoints)| cluster(name, *endpoints));
        let mut routed_clusters: Vec<_> = clusters.map(Some).collect();
        let others = routed_clusters.split_off(routed);
        let clusters = ClusterTable::placed(routed_clusters, others.into_iter().flatten());
        CompiledSnapshot { clusters, ..CompiledSnapshot::default() }
    }

    #[test]
    fn what_routes_begin_to_name_is_cold() {
        let mut current = snapshot(&[("old", 1), ("empty", 0), ("idle", 1)], 2);
        current.generation = 1;
        let next = snapshot(
            &[("old", 2), ("empty", 1), ("idle", 1), ("new", 1), ("nobody", 0), ("x", 1)],
            5,
        );
        let cold: Vec<String> =
            cold_clusters(&current, &next).iter().map(|it| it.name.to_string()).collect();
        assert_eq!(cold, ["empty", "idle", "new"]);
    }

    #[test]
    fn before_the_first_snapshot_only_what_is_probed_is_cold() {
        let mut next = snapshot(&[("plain", 1)], 1);
        assert!(cold_clusters(&CompiledSnapshot::default(), &next).is_empty());
        let mut probed = Cluster::clone(&cluster("probed", 1));
        Arc::make_mut(&mut probed.traffic).probe = Some(Probe {
            kind: ProbeKind::Tcp,
            interval: WARM_TIME,
            timeout: WARM_TIME,
            thresholds: Thresholds { unhealthy: 1, healthy: 1 },
        });
        next.clusters = ClusterTable::placed(vec![Some(Arc::new(probed))], []);
        assert_eq!(cold_clusters(&CompiledSnapshot::default(), &next).len(), 1);
    }

    /// Never answers.
    struct Stuck;

    impl Warm for Stuck {
        async fn warm(&self, _: &Arc<Cluster>) -> bool {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn dead_endpoints_hold_up_the_swap_for_a_bounded_time() {
        let handle = SnapshotHandle::new();
        let names: Vec<String> = (0..200).map(|i| i.to_string()).collect();
        let clusters: Vec<(&str, u16)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        handle.publish(CompiledSnapshot { generation: 1, ..CompiledSnapshot::default() });
        let begun = Instant::now();
        activate(&handle, &Stuck, snapshot(&clusters, 200), warm_deadline()).await;
        assert_eq!(begun.elapsed(), WARM_TIME);
        assert_eq!(handle.load().generation, 2);
    }
}
