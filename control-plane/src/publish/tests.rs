use std::time::Duration;

use segue_control_plane_core::compile::{NodeClass, NodeKind};
use segue_shared::ids::Revision;

use super::*;

fn mesh(revision: u64) -> Arc<MeshConfig> {
    Arc::new(MeshConfig { revision: Revision(revision), ..MeshConfig::default() })
}

#[tokio::test(start_paused = true)]
async fn a_single_change_goes_out_at_once_and_a_burst_every_100_ms() {
    let (store, config) = watch::channel(mesh(1));
    let cache = SnapshotCache::default();
    let (drain, fleet) = (DrainSignal::new(), Fleet::new());
    let settings = discovery::Settings::default();
    let publisher = Publisher::new(config, cache.clone(), fleet.clone(), Streams::here(), settings);
    let running = tokio::spawn(publisher.run(drain.clone()));
    cache.published().await;
    let class = NodeClass { kind: NodeKind::Sidecar, service: None };
    let mut snapshots = cache.watch(class).await.unwrap();
    assert_eq!(snapshots.newest().0.revision, Revision(1));

    tokio::time::sleep(Duration::from_secs(1)).await;
    let begin = Instant::now();
    store.send_replace(mesh(2));
    assert!(snapshots.changed().await);
    assert_eq!(snapshots.newest().0.revision, Revision(2));
    assert_eq!(begin.elapsed(), Duration::ZERO);

    for revision in 3..=50 {
        store.send_replace(mesh(revision));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(snapshots.changed().await);
    assert_eq!(snapshots.newest().0.revision, Revision(50));
    assert_eq!(begin.elapsed(), BURST);

    drain.cancel();
    running.await.unwrap();
}
