//! Streams that stand still, hurry, refuse for ever or talk nonsense.

use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use segue_control_plane::xds::Settings;
use segue_shared::xds_names::type_urls::{CLUSTER, LISTENER};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::{PATIENCE, Server, Sidecar, answer, asks};

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_and_holds_up_nobody() {
    let settings = Settings { xds_max_pushes: 1, xds_stalled_seconds: 4, ..Settings::default() };
    let server = Server::with(2000, settings);
    // Its windows hold a part of the first response, and it never makes room for more.
    let small = server.endpoint().initial_stream_window_size(65_535);
    let frozen = Sidecar::open(small.connect().await.unwrap()).await.unwrap();
    frozen.send(asks("frozen", CLUSTER)).await;
    server.until("it stands still", |metrics| metrics.stalled.get() == 1).await;
    // The only place for large responses is free again.
    let mut other = server.sidecar("other").await;
    assert_eq!(other.heard().await, 2000);
    server.until("it is cut", |metrics| metrics.endings("stalled") == 1).await;
    server.until("it is gone", |metrics| metrics.open("sidecar") == 1).await;
    server.publish(2, 2001);
    assert_eq!(other.heard().await, 1, "the other one goes on");
    drop((frozen, other));
    server.forgotten().await;
}

#[tokio::test]
async fn a_client_that_refuses_for_ever_is_sent_nothing_twice() {
    let server = Server::with(3, Settings::default());
    let mut grumpy = server.sidecar("grumpy").await;
    let response = grumpy.next().await.unwrap();
    for _ in 0..1200 {
        grumpy.send(answer(&response, Some("I do not like it"))).await;
    }
    server.until("all are read", |metrics| metrics.nacks(CLUSTER) == 1200).await;
    assert!(server.metrics.delayed_requests.get() > 0, "the last ones late");
    assert_eq!(server.metrics.pushes(CLUSTER), 1);
    let mut other = server.sidecar("other").await;
    assert_eq!(other.heard().await, 3);
    server.publish(2, 4);
    assert_eq!((grumpy.heard().await, other.heard().await), (1, 1), "only what changed");
    drop((grumpy, other));
    server.forgotten().await;
}

#[tokio::test]
async fn of_one_sidecar_only_the_newest_stream_lives() {
    let server = Server::with(3, Settings::default());
    let mut other = server.sidecar("other").await;
    assert_eq!(other.heard().await, 3);
    let mut last = server.sidecar("restless").await;
    assert_eq!(last.heard().await, 3);
    for _ in 0..20 {
        let mut newer = server.sidecar("restless").await;
        assert_eq!(newer.heard().await, 3);
        assert_eq!(last.next().await.unwrap_err().code(), Code::Aborted);
        last = newer;
    }
    assert_eq!(server.metrics.duplicate_nodes.get(), 20);
    server.until("two are left", |metrics| metrics.open("sidecar") == 2).await;
    server.publish(2, 4);
    assert_eq!((other.heard().await, last.heard().await), (1, 1));
    drop((other, last));
    server.forgotten().await;
}

#[tokio::test]
async fn envoys_may_share_an_id() {
    let server = Server::with(3, Settings::default());
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let mut envoy = Sidecar::open(server.channel().await).await.unwrap();
        let mut first = asks("edge", CLUSTER);
        first.node.as_mut().unwrap().user_agent_name = "envoy".to_owned();
        envoy.send(first).await;
        assert_eq!(envoy.heard().await, 3);
        replicas.push(envoy);
    }
    server.publish(2, 4);
    for envoy in &mut replicas {
        assert_eq!(envoy.heard().await, 1);
    }
}

#[tokio::test]
async fn all_come_back_at_once_and_none_is_turned_away() {
    let server = Arc::new(Server::with(300, Settings::default()));
    let mut fleet = JoinSet::new();
    for i in 0..500 {
        let server = Arc::clone(&server);
        fleet.spawn(async move {
            let mut sidecar = server.sidecar(&format!("n{i}")).await;
            assert_eq!(sidecar.heard().await, 300);
            sidecar
        });
    }
    let sidecars = fleet.join_all().await;
    assert_eq!(server.metrics.open("sidecar"), 500);
    drop(sidecars);
    server.forgotten().await;
}

#[tokio::test]
async fn places_are_counted() {
    let settings = Settings { xds_max_streams: 2, xds_max_connections: 1, ..Settings::default() };
    let server = Server::with(1, settings);
    let channel = server.channel().await;
    let streams = [
        Sidecar::open(channel.clone()).await.unwrap(),
        Sidecar::open(channel.clone()).await.unwrap(),
    ];
    let third = Sidecar::open(channel.clone()).await.map(|_| ());
    assert_eq!(third.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(server.metrics.refusals("streams"), 1);
    let mut second = TcpStream::connect(server.address).await.unwrap();
    let closed = tokio::time::timeout(PATIENCE, second.read(&mut [0; 16])).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    drop(streams);
    drop(channel);
    server.forgotten().await;
}

#[tokio::test]
async fn an_old_stream_ends_so_that_its_client_may_go_elsewhere() {
    let settings = Settings { xds_max_age_seconds: 1, ..Settings::default() };
    let server = Server::with(1, settings);
    let mut sidecar = server.sidecar("old").await;
    assert_eq!(sidecar.heard().await, 1);
    assert_eq!(sidecar.next().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(server.metrics.endings("age"), 1);
}

#[tokio::test]
async fn what_is_no_request_is_refused_with_a_status() {
    let server = Server::with(1, Settings::default());
    let open = || async { Sidecar::open(server.channel().await).await.unwrap() };

    let mut oversized = open().await;
    let mut request = asks("big", CLUSTER);
    request.resource_names_subscribe = vec!["n".repeat(5 << 20)];
    oversized.send(request).await;
    assert_eq!(oversized.next().await.unwrap_err().code(), Code::ResourceExhausted);

    let mut many = open().await;
    let mut request = asks("many", CLUSTER);
    request.resource_names_subscribe = (0..140_000).map(|i| format!("c{i}")).collect();
    many.send(request).await;
    assert_eq!(many.next().await.unwrap_err().code(), Code::ResourceExhausted);

    let mut curious = open().await;
    for i in 0..40 {
        curious.send(asks("curious", &format!("type.googleapis.com/no.such.Type{i}"))).await;
    }
    assert_eq!(curious.next().await.unwrap_err().code(), Code::ResourceExhausted);

    let mut typeless = open().await;
    typeless.send(asks("typeless", "")).await;
    assert_eq!(typeless.next().await.unwrap_err().code(), Code::InvalidArgument);

    let mut long = tonic::Request::new(tokio_stream::pending());
    long.metadata_mut().insert("x-long", "x".repeat(60_000).parse().unwrap());
    let mut client = AggregatedDiscoveryServiceClient::new(server.channel().await);
    let mut refused = client.delta_aggregated_resources(long).await.unwrap().into_inner();
    assert!(refused.message().await.is_err());

    let mut sidecar = server.sidecar("good").await;
    assert_eq!(sidecar.heard().await, 1);
    sidecar.send(asks("good", LISTENER)).await;
    assert_eq!(sidecar.heard().await, 1);
    drop((oversized, many, curious, typeless, client, sidecar));
    server.forgotten().await;
}
