//! The xDS client against a control plane that the test plays by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail so")]

mod plane;
#[path = "../src/xds/sample.rs"]
mod sample;

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::ControlPlane as PbControlPlane;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use segue_shared::ids::Revision;
use segue_shared::xds_names::type_urls::{
    CLUSTER, ENDPOINT, LISTENER, ROUTE, SNAPSHOT_MARK, VIRTUAL_HOST,
};
use segue_sidecar::activate::DeliveryState;
use segue_sidecar::xds::{XdsProtocol, XdsSettings};
use tonic::Status;

use plane::{control_plane, opened, settings, sidecar, sidecar_with};
use sample::{assignment, cluster, listener, mark, routes, tls_cluster, vhds, virtual_host};

fn revisions(state: &DeliveryState) -> (u64, u64) {
    (state.accepted_revision.0, state.activated_revision.0)
}

#[tokio::test]
async fn a_revision_is_warmed_swapped_in_and_told() {
    let mut plane = control_plane().await;
    let mut sidecar = sidecar(plane.address, XdsProtocol::Delta, None).await;
    let mut stream = opened(&mut plane.delta).await;
    let first = stream.request(CLUSTER, false).await;
    let node = first.node.unwrap();
    assert_eq!((node.id.as_str(), node.cluster.as_str()), ("node-1", "default/front"));
    assert_eq!(node.user_agent_name, "segue-sidecar");

    stream.send_mesh("a", "1").await;
    assert_eq!(stream.request(ENDPOINT, false).await.resource_names_subscribe, ["a"]);
    stream.send_mark(1).await;
    let state = sidecar.delivery(|state| state.activated_revision == Revision(1)).await;
    assert_eq!(revisions(&state), (1, 1));
    let snapshot = sidecar.handle.load();
    assert!(snapshot.routes.virtual_host("chat").is_some());
    assert_eq!((snapshot.generation, snapshot.revision), (1, Some(Revision(1))));
    assert!(sidecar.warmed.lock().unwrap().is_empty(), "nothing served that could be kept");

    stream.send_mesh("b", "2").await;
    stream.send_mark(2).await;
    sidecar.delivery(|state| state.activated_revision == Revision(2)).await;
    assert_eq!(*sidecar.warmed.lock().unwrap(), ["b served=false"]);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_refusal_is_told_both_ways_and_leaves_the_last_good_one() {
    let mut plane = control_plane().await;
    let mut sidecar = sidecar(plane.address, XdsProtocol::Delta, None).await;
    let mut stream = opened(&mut plane.delta).await;
    stream.send_mesh("a", "1").await;
    stream.send_mark(1).await;
    sidecar.delivery(|state| state.activated_revision == Revision(1)).await;

    stream.send(CLUSTER, vec![("a", "2", tls_cluster("a"))]).await;
    stream.send_mark(2).await;
    let nack = loop {
        if let Some(nack) = stream.request(CLUSTER, true).await.error_detail {
            break nack;
        }
    };
    assert_eq!(nack.message, "Cluster a: transport_socket.typed_config: must be set");
    let told = |state: &DeliveryState| {
        state.rejections.first().is_some_and(|it| it.revision == Some(Revision(2)))
    };
    let state = sidecar.delivery(told).await;
    assert_eq!(revisions(&state), (1, 1), "not beyond the last clean revision");
    assert_eq!(state.rejections[0].reject.field_path, "transport_socket.typed_config");

    stream.send(CLUSTER, vec![("a", "3", cluster("a"))]).await;
    stream.send_mark(3).await;
    let state = sidecar.delivery(|state| state.activated_revision == Revision(3)).await;
    assert_eq!((revisions(&state), state.rejections.len()), ((3, 3), 0));
    sidecar.stop().await;
}

#[tokio::test]
async fn a_broken_stream_changes_nothing_and_the_next_tells_what_is_here() {
    let mut plane = control_plane().await;
    let mut sidecar = sidecar(plane.address, XdsProtocol::Delta, None).await;
    let stream = opened(&mut plane.delta).await;
    stream.send_mesh("a", "7").await;
    stream.send_mark(1).await;
    sidecar.delivery(|state| state.activated_revision == Revision(1)).await;
    drop(stream);

    let mut again = opened(&mut plane.delta).await;
    assert!(sidecar.handle.load().routes.virtual_host("chat").is_some());
    let versions = again.request(CLUSTER, false).await.initial_resource_versions;
    assert_eq!(versions.get("a").map(String::as_str), Some("7"));
    let endpoints = again.request(ENDPOINT, false).await;
    assert_eq!(endpoints.resource_names_subscribe, ["a"]);
    assert_eq!(endpoints.initial_resource_versions.len(), 1);
    again.send_mesh("b", "8").await;
    again.send_mark(2).await;
    sidecar.delivery(|state| state.activated_revision == Revision(2)).await;
    assert_eq!(sidecar.client.status.borrow().streams, 2);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_restarted_sidecar_serves_from_disk_while_the_control_plane_is_silent() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = control_plane().await;
    let mut before = sidecar(plane.address, XdsProtocol::Delta, Some(dir.path())).await;
    let stream = opened(&mut plane.delta).await;
    stream.send_mesh("a", "1").await;
    stream.send_mark(5).await;
    before.delivery(|state| state.activated_revision == Revision(5)).await;
    before.stop().await;
    drop(stream);

    // Nobody answers on this stream until the snapshot from disk serves.
    let mut after = sidecar(plane.address, XdsProtocol::Delta, Some(dir.path())).await;
    after.swapped_to("a").await;
    let state = after.delivery(|state| state.activated_revision == Revision(5)).await;
    assert_eq!(revisions(&state), (5, 5));
    let mut stream = opened(&mut plane.delta).await;
    let mark = stream.request(SNAPSHOT_MARK, false).await;
    assert_eq!(mark.initial_resource_versions.get("snapshot").map(String::as_str), Some("5"));

    stream.send_mesh("b", "2").await;
    stream.send_mark(6).await;
    after.delivery(|state| state.activated_revision == Revision(6)).await;
    after.stop().await;
}

/// As our own control plane: it names itself, and sends virtual hosts apart.
#[tokio::test]
async fn a_virtual_host_is_followed_alone() {
    let mut plane = control_plane().await;
    let mut sidecar = sidecar(plane.address, XdsProtocol::Delta, None).await;
    let mut stream = opened(&mut plane.delta).await;
    let first = DeltaDiscoveryResponse {
        type_url: CLUSTER.to_owned(),
        nonce: "1".to_owned(),
        control_plane: Some(PbControlPlane { identifier: "segue".to_owned() }),
        ..Default::default()
    };
    stream.responses.send(Ok(first)).await.unwrap();
    for type_url in [ENDPOINT, VIRTUAL_HOST] {
        assert_eq!(stream.request(type_url, false).await.resource_names_subscribe, ["*"]);
    }
    stream.send_mesh("a", "1").await;
    stream.send(ROUTE, vec![("outbound", "2", vhds())]).await;
    let host = |to| vec![("outbound/default/shop", to, virtual_host("shop", to))];
    stream.send(VIRTUAL_HOST, host("a")).await;
    stream.send_mark(1).await;
    sidecar.delivery(|state| state.activated_revision == Revision(1)).await;
    let serves = || sidecar.handle.load().routes.virtual_host("shop").is_some();
    assert!(serves());
    stream.send(CLUSTER, vec![("b", "1", cluster("b"))]).await;
    stream.send(ENDPOINT, vec![("b", "1", assignment("b", 9))]).await;
    stream.send(VIRTUAL_HOST, host("b")).await;
    stream.send_mark(2).await;
    sidecar.delivery(|state| state.activated_revision == Revision(2)).await;
    assert!(sidecar.handle.load().clusters.routed_by_name("b").is_some());
    sidecar.stop().await;
}

#[tokio::test]
async fn a_control_plane_without_marks_is_followed_all_the_same() {
    let mut plane = control_plane().await;
    let sidecar = sidecar(plane.address, XdsProtocol::Delta, None).await;
    let stream = opened(&mut plane.delta).await;
    stream.send_mesh("a", "1").await;
    sidecar.swapped_to("a").await;
    stream.send_mesh("b", "2").await;
    sidecar.swapped_to("b").await;
    assert_eq!(sidecar.handle.load().revision, None);
    sidecar.stop().await;
}

#[tokio::test]
async fn state_of_the_world_comes_to_the_same() {
    let mut plane = control_plane().await;
    let mut sidecar = sidecar(plane.address, XdsProtocol::Sotw, None).await;
    let stream = opened(&mut plane.sotw).await;
    for (type_url, resource) in [
        (CLUSTER, cluster("a")),
        (ENDPOINT, assignment("a", 9)),
        (LISTENER, listener()),
        (ROUTE, routes("a")),
        (SNAPSHOT_MARK, mark(4)),
    ] {
        let response = DiscoveryResponse {
            type_url: type_url.to_owned(),
            version_info: "1".to_owned(),
            nonce: "n".to_owned(),
            resources: vec![resource],
            ..Default::default()
        };
        stream.responses.send(Ok(response)).await.unwrap();
    }
    let state = sidecar.delivery(|state| state.activated_revision == Revision(4)).await;
    assert_eq!(revisions(&state), (4, 4));
    sidecar.stop().await;
}

#[tokio::test]
async fn a_stream_refused_for_its_marks_is_tried_without() {
    let mut plane = control_plane().await;
    let sidecar = sidecar(plane.address, XdsProtocol::Delta, None).await;
    let first = opened(&mut plane.delta).await;
    first.responses.send(Err(Status::invalid_argument("unknown type"))).await.unwrap();
    let mut second = opened(&mut plane.delta).await;
    second.send_mesh("a", "1").await;
    sidecar.swapped_to("a").await;
    drop(second.responses);
    while let Ok(Some(request)) = second.requests.message().await {
        assert_ne!(request.type_url, SNAPSHOT_MARK);
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn what_never_comes_is_not_waited_for_without_end() {
    let mut plane = control_plane().await;
    let settings = XdsSettings {
        resource_timeout: Duration::from_millis(200),
        ..settings(&format!("http://{}", plane.address))
    };
    let mut sidecar = sidecar_with(settings).await;
    let stream = opened(&mut plane.delta).await;
    stream.send_mesh("a", "1").await;
    sidecar.swapped_to("a").await;
    // A cluster that is never sent; endpoints of the other one go on changing.
    stream.send(ROUTE, vec![("outbound", "2", routes("never"))]).await;
    sidecar.delivery(|state| state.waiting_for == ["Cluster never"]).await;
    stream.send(ENDPOINT, vec![("a", "2", assignment("a", 4321))]).await;
    sidecar.status(|status| status.resource_timeouts == 1).await;
    let mut swaps = sidecar.handle.swaps();
    let moved = async {
        loop {
            let snapshot = sidecar.handle.load();
            let a = snapshot.clusters.routed_by_name("a").expect("the last routes stay");
            if a.endpoints[0].address.port() == 4321 {
                return;
            }
            swaps.changed().await.unwrap();
        }
    };
    tokio::time::timeout(plane::PATIENCE, moved).await.expect("new endpoints serve");
    stream.send(CLUSTER, vec![("never", "1", cluster("never"))]).await;
    stream.send(ENDPOINT, vec![("never", "1", assignment("never", 9))]).await;
    sidecar.swapped_to("never").await;
    sidecar.delivery(|state| state.waiting_for.is_empty()).await;
    sidecar.stop().await;
}
