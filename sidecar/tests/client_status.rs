//! What the sidecar says of its own xDS resources, in Envoy's words, on its admin port.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail so")]

mod plane;
#[path = "../src/xds/sample.rs"]
mod sample;

use std::collections::BTreeMap;

use clap::Parser as _;
use envoy_types::pb::envoy::admin::v3::ClientResourceStatus::{Acked, Nacked, Requested};
use envoy_types::pb::envoy::service::status::v3::ClientStatusRequest;
use envoy_types::pb::envoy::service::status::v3::client_config::GenericXdsConfig;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use envoy_types::pb::envoy::r#type::matcher::v3::NodeMatcher;
use segue_shared::xds_names::type_urls::{CLUSTER, ENDPOINT};
use segue_sidecar::assembly;
use segue_sidecar::settings::Settings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Channel;

use plane::{control_plane, opened};
use sample::{cluster, tls_cluster};

type Client = ClientStatusDiscoveryServiceClient<Channel>;

/// The resources by type and name.
async fn fetch(client: &mut Client, bare: bool) -> BTreeMap<(String, String), GenericXdsConfig> {
    let request =
        ClientStatusRequest { exclude_resource_contents: bare, ..ClientStatusRequest::default() };
    let mut answer = client.fetch_client_status(request).await.unwrap().into_inner();
    let config = answer.config.remove(0);
    assert_eq!(config.node.unwrap().id, "node-1");
    let resources = config.generic_xds_configs.into_iter();
    resources.map(|it| ((it.type_url.clone(), it.name.clone()), it)).collect()
}

#[tokio::test]
async fn every_resource_is_told_with_where_it_stands_over_grpc_beside_the_pages_for_people() {
    let mut plane = control_plane().await;
    let control_plane = format!("--control-plane=http://{}", plane.address);
    let sidecar = assembly::start(Settings::parse_from([
        "segue-sidecar",
        "--service=chat",
        "--node-id=node-1",
        &control_plane,
        "--outbound-address=127.0.0.1:0",
        "--admin-address=127.0.0.1:0",
        "--workers=1",
        "--drain-timeout=1",
    ]))
    .await
    .unwrap();
    let mut stream = opened(&mut plane.delta).await;
    stream.send_mesh("a", "7").await;
    stream.send(CLUSTER, vec![("a", "8", tls_cluster("a")), ("b", "1", cluster("b"))]).await;
    // Answered in order: both responses are taken when the subscription to b comes.
    while !stream.request(ENDPOINT, false).await.resource_names_subscribe.contains(&"b".to_owned())
    {
    }

    let url = format!("http://{}", sidecar.admin_address);
    let mut client = Client::connect(url).await.unwrap();
    let resources = fetch(&mut client, false).await;
    let find = |type_url: &str, name: &str| &resources[&(type_url.to_owned(), name.to_owned())];
    let refused = find(CLUSTER, "a");
    assert_eq!((refused.client_status, refused.version_info.as_str()), (Nacked as i32, "7"));
    assert_eq!(refused.xds_config.as_ref().unwrap().value, cluster("a").value);
    let error = refused.error_state.as_ref().unwrap();
    assert!(error.details.contains("transport_socket.typed_config"), "{error:?}");
    let good = find(ENDPOINT, "a");
    assert_eq!(good.client_status, Acked as i32);
    assert!(good.last_updated.is_some() && good.error_state.is_none());
    assert_eq!(find(ENDPOINT, "b").client_status, Requested as i32);

    let bare = fetch(&mut client, true).await;
    assert_eq!(bare.len(), resources.len());
    assert!(bare.values().all(|resource| resource.xds_config.is_none()));
    let many =
        ClientStatusRequest { node_matchers: vec![NodeMatcher::default()], ..Default::default() };
    let refusal = client.fetch_client_status(many.clone()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);

    let asked = tokio_stream::iter(vec![ClientStatusRequest::default(); 2]);
    let mut answers = client.stream_client_status(asked).await.unwrap().into_inner();
    for _ in 0..2 {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.config[0].generic_xds_configs.len(), resources.len());
    }
    assert!(answers.message().await.unwrap().is_none());

    // The first bytes may come one at a time.
    let mut people = TcpStream::connect(sidecar.admin_address).await.unwrap();
    for byte in b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" {
        people.write_all(&[*byte]).await.unwrap();
    }
    let mut page = String::new();
    people.read_to_string(&mut page).await.unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");

    // A name that leads here is not this machine's.
    let origin = "http://evil.test".parse().unwrap();
    let endpoint =
        tonic::transport::Endpoint::from_shared(format!("http://{}", sidecar.admin_address));
    let channel = endpoint.unwrap().origin(origin).connect().await.unwrap();
    let refusal = Client::new(channel).fetch_client_status(ClientStatusRequest::default()).await;
    assert_eq!(refusal.unwrap_err().code(), Code::PermissionDenied);
    drop(stream);
    sidecar.shutdown().await;
}
