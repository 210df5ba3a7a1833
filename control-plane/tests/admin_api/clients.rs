//! Envoys and gRPC clients: how far a revision is on nodes that only ACK.

use std::time::Duration;

use envoy_types::pb::envoy::service::status::v3::ClientStatusRequest;
use segue_proto::admin::v1::wait_activated_response::Outcome;
use segue_proto::admin::v1::{ListSidecarsRequest, WaitActivatedRequest, WaitActivatedResponse};
use segue_shared::xds_names::type_urls::{CLUSTER, ENDPOINT};
use tokio::time::timeout;

use crate::csds::{Client, Csds};
use crate::support::{Plane, empty, service};

const PATIENCE: Duration = Duration::from_secs(20);

/// How a wait for a revision ends.
async fn waited(plane: &mut Plane, revision: u64, millis: i32) -> WaitActivatedResponse {
    let seconds = i64::from(millis / 1000);
    let timeout_after = prost_types::Duration { seconds, nanos: millis % 1000 * 1_000_000 };
    let request = WaitActivatedRequest { revision, timeout: Some(timeout_after) };
    let mut stream = plane.status.wait_activated(request).await.unwrap().into_inner();
    loop {
        let told = timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
        if told.done {
            return told;
        }
    }
}

/// An Envoy next to `shop`, which depends on `chat` alone, with the clusters of both and without a
/// route.
async fn shop(plane: &mut Plane) -> Client {
    let shop = service("shop").replace("spec:\n", "spec:\n  dependsOn: [{name: chat}]\n");
    let all = [service("chat"), service("other"), shop].join("---\n");
    plane.apply(&all).await.unwrap();
    let mut envoy = Client::connect(plane, "envoy-1", "shop").await;
    envoy.want(CLUSTER, &[]).await;
    envoy.answer(CLUSTER, None).await;
    let clusters =
        ["chat/v1", "chat/v2", "shop/v1", "shop/v2"].map(|name| format!("default/{name}"));
    envoy.want(ENDPOINT, &clusters.each_ref().map(String::as_str)).await;
    envoy.answer(ENDPOINT, None).await;
    envoy
}

#[tokio::test]
async fn an_envoy_is_waited_for_until_it_acks() {
    let (mut plane, _directory) = empty().await;
    let mut envoy = shop(&mut plane).await;
    let told = waited(&mut plane, 1, 20_000).await;
    assert_eq!((told.total, told.clients, told.activated), (1, 1, 1));
    assert_eq!(told.outcome(), Outcome::Activated);

    let more = "    - {name: v3, endpoints: [\"127.0.0.1:9003\"]}\n";
    plane.apply(&format!("{}{more}", service("chat"))).await.unwrap();
    let told = waited(&mut plane, 2, 200).await;
    assert_eq!((told.outcome(), told.missing), (Outcome::Timeout, vec!["envoy-1".to_owned()]));
    envoy.answer(CLUSTER, None).await;
    envoy.want(ENDPOINT, &["default/chat/v3"]).await;
    envoy.answer(ENDPOINT, None).await;
    assert_eq!(waited(&mut plane, 2, 20_000).await.outcome(), Outcome::Activated);
}

#[tokio::test]
async fn an_envoy_that_a_change_does_not_touch_is_not_waited_for() {
    let (mut plane, _directory) = empty().await;
    let _envoy = shop(&mut plane).await;
    plane.apply(&service("other").replace("9001", "9009")).await.unwrap();
    let told = waited(&mut plane, 2, 20_000).await;
    assert_eq!((told.total, told.activated), (1, 1));
    assert_eq!(told.outcome(), Outcome::Activated);
}

#[tokio::test]
async fn the_cluster_of_a_node_names_its_service_in_every_status() {
    let (mut plane, _directory) = empty().await;
    let _envoy = shop(&mut plane).await;
    waited(&mut plane, 1, 20_000).await;
    let request =
        ListSidecarsRequest { service: "shop".to_owned(), ..ListSidecarsRequest::default() };
    let listed = plane.status.list_sidecars(request).await.unwrap().into_inner().sidecars;
    assert_eq!((listed[0].node_id.as_str(), listed[0].reports), ("envoy-1", false));
    let mut csds = Csds::new(plane.channel.clone());
    let told = csds.fetch_client_status(ClientStatusRequest::default()).await.unwrap().into_inner();
    assert_eq!(told.config[0].node.as_ref().unwrap().cluster, "default/shop");
}
