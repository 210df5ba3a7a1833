use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use segue_control_plane_core::compile::{NodeClass, NodeKind};
use segue_control_plane_core::config::{SourceText, check, parse};
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

/// Services, each with so many endpoints.
fn services(revision: u64, services: usize, endpoints: usize) -> Arc<MeshConfig> {
    let endpoints: Vec<String> =
        (0..endpoints).map(|at| format!("\"127.0.0.1:{}\"", 9000 + at)).collect();
    let endpoints = endpoints.join(", ");
    let documents: Vec<String> = (0..services)
        .map(|at| {
            format!(
                "kind: Service\nmetadata: {{name: s{at}}}\nspec: {{versions: [{{name: v1, \
                 endpoints: [{endpoints}]}}]}}"
            )
        })
        .collect();
    let file = SourceText { name: "f.yaml".to_owned(), content: documents.join("\n---\n") };
    Arc::new(check(Revision(revision), &parse(&[file]).unwrap()).unwrap())
}

/// A publisher of what is sent here; nodes take resources of so many bytes.
fn publisher(
    first: Arc<MeshConfig>,
    most: usize,
) -> (watch::Sender<Arc<MeshConfig>>, SnapshotCache, Fleet) {
    let (store, config) = watch::channel(first);
    let (cache, fleet) = (SnapshotCache::limited(most), Fleet::new());
    let settings = discovery::Settings::default();
    let publisher = Publisher::new(config, cache.clone(), fleet.clone(), Streams::here(), settings);
    tokio::spawn(publisher.run(DrainSignal::new()));
    (store, cache, fleet)
}

async fn until(fleet: &Fleet, holds: impl Fn(&Fleet) -> bool) {
    let held = async {
        while !holds(fleet) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_mins(1), held).await.unwrap();
}

/// What is held back, as `type name`, of which revision, and what nodes keep.
fn held_back(fleet: &Fleet) -> Vec<(String, u64, u64)> {
    let told = fleet.held_back().into_iter().map(|one| {
        let rejection = one.rejection;
        let r#type = segue_shared::xds_names::short_type(&rejection.type_url);
        let resource = format!("{} {}", r#type, rejection.resource);
        (resource, rejection.revision.0, one.activated.0)
    });
    told.collect()
}

const ENVOY: NodeKind =
    NodeKind::Envoy { outbound_address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1) };

fn class(kind: NodeKind) -> NodeClass {
    NodeClass { kind, service: None }
}

#[tokio::test(start_paused = true)]
async fn what_no_node_can_be_sent_is_not_published() {
    let (store, cache, fleet) = publisher(services(1, 1, 1), 1500);
    cache.published().await;
    let _sidecars = cache.watch(class(NodeKind::Sidecar)).await.unwrap();
    store.send_replace(services(2, 1, 200));
    until(&fleet, |fleet| !fleet.held_back().is_empty()).await;
    assert_eq!(held_back(&fleet), [("ClusterLoadAssignment default/s0/v1".to_owned(), 2, 1)]);
    assert_eq!(fleet.published_revision(), Revision(1));
    let refused = fleet.progress(Revision(2)).refused.remove(0);
    assert!(refused.to_string().contains("for sidecars it has "), "{refused}");
    assert!(fleet.progress(Revision(1)).refused.is_empty());

    store.send_replace(services(3, 1, 2));
    until(&fleet, |fleet| fleet.published_revision() == Revision(3)).await;
    until(&fleet, |fleet| fleet.held_back().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn what_some_nodes_can_be_sent_is_published_and_the_others_are_told_of() {
    let (store, cache, fleet) = publisher(services(1, 1, 1), 1500);
    cache.published().await;
    let mut sidecars = cache.watch(class(NodeKind::Sidecar)).await.unwrap();
    let mut envoys = cache.watch(class(ENVOY)).await.unwrap();
    // All routes of Envoys are one resource.
    store.send_replace(services(2, 30, 1));
    until(&fleet, |fleet| !fleet.held_back().is_empty()).await;
    assert_eq!(held_back(&fleet), [("RouteConfiguration outbound".to_owned(), 2, 1)]);
    assert_eq!(fleet.published_revision(), Revision(2));
    assert_eq!(sidecars.newest().0.revision, Revision(2));
    assert_eq!(envoys.newest().0.revision, Revision(1));
}

#[tokio::test(start_paused = true)]
async fn a_kind_of_node_that_comes_late_is_told_of_too() {
    let (_store, cache, fleet) = publisher(services(1, 30, 1), 1500);
    until(&fleet, |fleet| fleet.published_revision() == Revision(1)).await;
    assert!(fleet.held_back().is_empty());
    let _envoys = cache.watch(class(ENVOY)).await.unwrap();
    until(&fleet, |fleet| !fleet.held_back().is_empty()).await;
    assert_eq!(held_back(&fleet), [("RouteConfiguration outbound".to_owned(), 1, 0)]);
}
