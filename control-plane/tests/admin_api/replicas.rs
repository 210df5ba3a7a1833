//! Several control planes on one etcd answer for one fleet, and one alone for those that come back.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use segue_control_plane::settings::Settings;
use segue_proto::admin::v1::condition::Status;
use segue_proto::admin::v1::wait_activated_response::Outcome;
use segue_proto::admin::v1::{ListRequest, ListSidecarsRequest, OtherControlPlane};
use segue_proto::report::v1::Rejection;
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::{Code, Streaming};

use crate::etcd_process::EtcdProcess;
use crate::ports::get;
use crate::streams::{Sidecar, end, next, wait};
use crate::support::{Plane, chat, empty, on, with};

const SOON: Duration = Duration::from_secs(30);

/// One control plane of several on an etcd.
async fn replica(etcd: &EtcdProcess) -> (Plane, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let plane = with(Settings { etcd: etcd.settings(), ..Settings::local(directory.path()) }).await;
    (plane, directory)
}

/// Waits until a control plane has heard what it should of the others.
async fn hears(plane: &Plane, expected: impl Fn(&[OtherControlPlane]) -> bool) {
    let mut status = plane.status.clone();
    let heard = async {
        loop {
            let list = status.list_sidecars(ListSidecarsRequest::default()).await.unwrap();
            if expected(&list.into_inner().others) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, heard).await.unwrap();
}

/// Waits until a revision that another one took is here as well.
async fn has(plane: &mut Plane, revision: u64) {
    let there = async {
        while plane.revision().await < revision {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, there).await.unwrap();
}

fn refusal(revision: u64) -> Rejection {
    Rejection {
        type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
        resource: "default/chat/v1".to_owned(),
        field_path: "lb_policy".to_owned(),
        reason: "not supported".to_owned(),
        revision,
    }
}

#[tokio::test]
async fn a_wait_on_one_control_plane_is_for_the_sidecars_of_all() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let ((mut here, _here), (mut there, _there)) = (replica(&etcd).await, replica(&etcd).await);
    here.apply(&chat(5)).await.unwrap();
    has(&mut there, 1).await;
    let far = Sidecar::connect(&there, "far", 0).await;
    let name = there.running.admin_address.to_string();
    hears(&here, |others| others.len() == 1 && others[0].name == name && others[0].sidecars == 1)
        .await;

    // It lags: whoever asks here hears of it.
    let mut lagging = wait(&mut here, 1, 200).await;
    let last = end(&mut lagging).await;
    assert_eq!((last.total, last.activated, last.outcome()), (1, 0, Outcome::Timeout));
    assert_eq!(last.missing, ["far"]);

    // It refuses.
    let mut refused = wait(&mut here, 1, 20_000).await;
    far.report(0, vec![refusal(1)]).await;
    let last = end(&mut refused).await;
    assert_eq!(last.outcome(), Outcome::Rejected, "{last:?}");
    assert_eq!(last.rejecting[0].node_id, "far");
    let told = last.rejecting[0].rejection.clone().unwrap();
    assert_eq!((told.r#type.as_str(), told.reason.as_str()), ("Cluster", "not supported"));

    // It runs on it after all.
    far.report(1, vec![]).await;
    hears(&here, |others| others[0].activated == 1).await;
    let last = end(&mut wait(&mut here, 1, 20_000).await).await;
    assert_eq!((last.total, last.activated, last.outcome()), (1, 1, Outcome::Activated));
    let list = here.config.list(ListRequest::default()).await.unwrap().into_inner();
    let conditions = &list.resources[0].conditions;
    let programmed = conditions.iter().find(|one| one.r#type == "Programmed").unwrap();
    assert_eq!(programmed.status(), Status::True, "{programmed:?}");
    // The nodes themselves are listed where they are.
    let list = here.status.list_sidecars(ListSidecarsRequest::default()).await.unwrap();
    assert!(list.into_inner().sidecars.is_empty());
}

#[tokio::test]
async fn sidecars_of_a_control_plane_that_goes_are_not_forgotten_on_their_way() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let ((mut here, _here), (mut there, _there)) = (replica(&etcd).await, replica(&etcd).await);
    here.apply(&chat(5)).await.unwrap();
    has(&mut there, 1).await;
    let far = Sidecar::connect(&there, "far", 0).await;
    hears(&here, |others| others.iter().any(|other| other.sidecars == 1)).await;
    there.running.shutdown().await;
    drop(far);
    hears(&here, <[OtherControlPlane]>::is_empty).await;

    let mut waiting = wait(&mut here, 1, 20_000).await;
    let first = next(&mut waiting).await;
    assert_eq!((first.total, first.done), (0, false), "{first:?}");
    assert!(first.unsettled.contains("has just gone"), "{first:?}");
    let far = Sidecar::connect(&here, "far", 0).await;
    let back = next(&mut waiting).await;
    assert_eq!((back.total, back.done, back.missing), (1, false, vec!["far".to_owned()]));
    far.report(1, vec![]).await;
    let last = end(&mut waiting).await;
    assert_eq!((last.total, last.outcome()), (1, Outcome::Activated));
}

#[tokio::test]
async fn one_that_has_just_started_does_not_speak_for_those_who_are_not_back() {
    let (mut plane, directory) = empty().await;
    plane.apply(&chat(5)).await.unwrap();
    // A store that was empty has no fleet that could be missing.
    let last = end(&mut wait(&mut plane, 1, 20_000).await).await;
    assert_eq!((last.total, last.outcome()), (0, Outcome::Activated));
    plane.running.shutdown().await;

    let mut plane = on(directory.path()).await;
    let mut waiting = wait(&mut plane, 1, 20_000).await;
    let first = next(&mut waiting).await;
    assert_eq!((first.total, first.done), (0, false));
    assert!(first.unsettled.contains("has just started"), "{first:?}");
    let _back = Sidecar::connect(&plane, "back", 1).await;
    let last = end(&mut waiting).await;
    assert_eq!((last.total, last.outcome()), (1, Outcome::Activated));
    assert!(last.unsettled.is_empty(), "{last:?}");
}

#[tokio::test]
async fn one_that_does_not_follow_its_store_is_not_ready_and_sends_sidecars_on() {
    let Some(etcd) = EtcdProcess::start_or_skip().await else { return };
    let (mut plane, _directory) = replica(&etcd).await;
    plane.apply(&chat(5)).await.unwrap();
    let http = plane.running.http_address;
    assert!(get(http, "/metrics").await.1.contains("segue_control_plane_store_followed 1\n"));
    let mut stream = open(&plane).await.unwrap();
    stream.message().await.unwrap().expect("it is served");

    etcd.lose_everything().await;
    let told = async {
        loop {
            let (status, body) = get(http, "/readyz").await;
            if body.contains("not followed") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let status = timeout(SOON, told).await.expect("it is told");
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    let metrics = get(http, "/metrics").await.1;
    assert!(metrics.contains("segue_control_plane_store_followed 0\n"), "{metrics}");
    assert!(metrics.contains("segue_control_plane_store_heard_age_seconds "), "{metrics}");
    let ended = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ends without a word"),
                Err(status) => return status.code(),
            }
        }
    };
    assert_eq!(timeout(SOON, ended).await.unwrap(), Code::Unavailable);
    let refused = match open(&plane).await {
        Ok(mut stream) => stream.message().await.unwrap_err(),
        Err(status) => status,
    };
    assert_eq!(refused.code(), Code::Unavailable);
}

/// A stream that asks for all clusters.
async fn open(
    plane: &Plane,
) -> Result<
    Streaming<envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse>,
    tonic::Status,
> {
    let address = format!("http://{}", plane.running.xds_address);
    let mut client = AggregatedDiscoveryServiceClient::connect(address).await.unwrap();
    let first = DeltaDiscoveryRequest {
        node: Some(Node { id: "client".to_owned(), ..Node::default() }),
        type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    let requests =
        tokio_stream::StreamExt::chain(tokio_stream::once(first), tokio_stream::pending());
    Ok(client.delta_aggregated_resources(requests).await?.into_inner())
}
