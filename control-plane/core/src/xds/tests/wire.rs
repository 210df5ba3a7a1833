//! Responses as clients read them.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{ControlPlane, Node};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryResponse, DiscoveryResponse, Resource, ResourceError, ResourceName,
};
use envoy_types::pb::google::protobuf::{self as pb, Any};
use envoy_types::pb::google::rpc::Status;
use prost::Message;
use segue_shared::xds_names::type_urls::{CLUSTER, VIRTUAL_HOST};

use super::world::{ack, ask, decoded, snapshot, want};
use crate::snapshot::{Batch, EncodedResource};
use crate::xds::{self as xds, Client, Delta, Response, Session, StateOfTheWorld};

const TTL: Duration = Duration::from_millis(90_500);

fn response(ttl: Option<Duration>, is_heartbeat: bool) -> Response {
    let resource = |name, version, body: &[u8]| {
        Arc::new(EncodedResource::with_version(CLUSTER, name, version, body))
    };
    Response {
        type_url: CLUSTER.into(),
        nonce: "17".to_owned(),
        version_info: "4711".to_owned(),
        resources: Batch::shared(vec![resource("a", "v1", b"body"), resource("empty", "v2", b"")]),
        removed: vec!["gone".into(), "x".repeat(300).into()],
        errors: vec![
            xds::ResourceError { name: "gone".into(), code: 5, message: "no such Cluster".into() },
            xds::ResourceError { name: "odd".into(), code: -1, message: "".into() },
        ],
        ttl,
        is_heartbeat,
    }
}

fn segue() -> ControlPlane {
    ControlPlane { identifier: "segue".to_owned() }
}

fn errors() -> Vec<ResourceError> {
    let error = |name: &str, code, message: &str| ResourceError {
        resource_name: Some(ResourceName { name: name.to_owned(), ..ResourceName::default() }),
        error_detail: Some(Status { code, message: message.to_owned(), ..Status::default() }),
    };
    vec![error("gone", 5, "no such Cluster"), error("odd", -1, "")]
}

fn any(body: &[u8]) -> Any {
    Any { type_url: CLUSTER.to_owned(), value: body.to_vec() }
}

fn resource(name: &str, version: &str, body: Option<&[u8]>, ttl: Option<Duration>) -> Resource {
    Resource {
        name: name.to_owned(),
        version: version.to_owned(),
        resource: body.map(any),
        ttl: ttl.map(|ttl| pb::Duration {
            seconds: ttl.as_secs().cast_signed(),
            nanos: ttl.subsec_nanos().cast_signed(),
        }),
        ..Resource::default()
    }
}

#[test]
fn a_delta_response_is_read_as_it_is_meant() {
    for (ttl, is_heartbeat) in [(None, false), (Some(TTL), false), (Some(TTL), true)] {
        let body = |body: &'static [u8]| (!is_heartbeat).then_some(body);
        let wanted = DeltaDiscoveryResponse {
            system_version_info: "4711".to_owned(),
            resources: vec![
                resource("a", "v1", body(b"body"), ttl),
                resource("empty", "v2", body(b""), ttl),
            ],
            type_url: CLUSTER.to_owned(),
            removed_resources: vec!["gone".to_owned(), "x".repeat(300)],
            nonce: "17".to_owned(),
            control_plane: Some(segue()),
            resource_errors: errors(),
            ..DeltaDiscoveryResponse::default()
        };
        let read: DeltaDiscoveryResponse = decoded::<Delta, _>(&response(ttl, is_heartbeat));
        assert_eq!(read, wanted);
    }
}

#[test]
fn a_state_of_the_world_response_is_read_as_it_is_meant() {
    let wrapped = |resource: Resource| Any {
        type_url: "type.googleapis.com/envoy.service.discovery.v3.Resource".to_owned(),
        value: resource.encode_to_vec(),
    };
    for (ttl, is_heartbeat) in [(None, false), (Some(TTL), false), (Some(TTL), true)] {
        let body = |body: &'static [u8]| (!is_heartbeat).then_some(body);
        let of = |name, version, bytes| {
            ttl.map_or(any(bytes), |_| wrapped(resource(name, version, body(bytes), ttl)))
        };
        let mut read: DiscoveryResponse =
            decoded::<StateOfTheWorld, _>(&response(ttl, is_heartbeat));
        for one in read.resources.iter_mut().filter(|_| ttl.is_some()) {
            // In the order of fields that prost writes.
            *one = wrapped(Resource::decode(&*one.value).unwrap());
        }
        let wanted = DiscoveryResponse {
            version_info: "4711".to_owned(),
            resources: vec![of("a", "v1", b"body"), of("empty", "v2", b"")],
            type_url: CLUSTER.to_owned(),
            nonce: "17".to_owned(),
            control_plane: Some(segue()),
            resource_errors: errors(),
            ..DiscoveryResponse::default()
        };
        assert_eq!(read, wanted);
    }
}

#[test]
fn the_words_around_a_resource_are_few() {
    let mut session = Session::<Delta>::new(
        snapshot(1_000_000, &[(VIRTUAL_HOST, "outbound/default/chat", "0123456789abcdef")]),
        Client::default(),
    );
    session.receive(want(VIRTUAL_HOST, &["*"], &[])).unwrap();
    let response = session.respond().unwrap();
    let of_resource: usize = response.resources.iter().map(|one| one.value().len()).sum();
    let bytes = xds::Message::of::<Delta>(response).bytes();
    assert!(bytes - of_resource < 200, "{bytes} bytes for a body of {of_resource}");
}

fn node(features: &[&str]) -> Node {
    let client_features = features.iter().map(|&feature| feature.to_owned()).collect();
    Node { client_features, ..Node::default() }
}

#[test]
fn a_time_to_live_is_for_those_who_know_what_that_is() {
    const SUPPORTS: &str = "xds.config.supports-resource-ttl";
    const IN_SOTW: &str = "xds.config.resource-in-sotw";
    let client = |features: &[&str]| Client::of(&node(features), Some(TTL));
    assert_eq!(client(&[]).ttl, None);
    assert_eq!(client(&[IN_SOTW]), Client { resource_in_sotw: true, ..Client::default() });
    assert_eq!(client(&[SUPPORTS]), Client { ttl: Some(TTL), ..Client::default() });
    assert_eq!(Client::of(&node(&[SUPPORTS]), None).ttl, None);

    let world = snapshot(1, &[(CLUSTER, "a", "1")]);
    for (features, ttl) in [(&[SUPPORTS] as &[&str], None), (&[SUPPORTS, IN_SOTW], Some(TTL))] {
        let mut session = Session::<StateOfTheWorld>::new(Arc::clone(&world), client(features));
        session.receive(ask(CLUSTER, &[])).unwrap();
        assert_eq!(session.respond().unwrap().ttl, ttl);
    }
}

#[test]
fn a_heartbeat_names_what_the_client_has_and_nothing_waits_for_its_ack() {
    let client = Client { ttl: Some(TTL), ..Client::default() };
    let mut session = Session::<Delta>::new(snapshot(1, &[(CLUSTER, "a", "1")]), client);
    session.receive(want(CLUSTER, &[], &[])).unwrap();
    session.receive(want(VIRTUAL_HOST, &["*"], &[])).unwrap();
    let first = session.respond().unwrap();
    assert_eq!(first.ttl, Some(TTL));
    assert!(session.heartbeat().is_empty(), "what is on its way lives long enough");
    session.receive(ack(&first)).unwrap();
    let hosts = session.respond().unwrap();
    session.receive(ack(&hosts)).unwrap();
    session.respond();

    let beats = session.heartbeat();
    assert_eq!(beats.len(), 1, "of virtual hosts there are none");
    let beat: DeltaDiscoveryResponse = decoded::<Delta, _>(&beats[0]);
    assert_eq!(beat.resources, [resource("a", "1", None, Some(TTL))]);
    assert!(!session.is_waiting());
    session.offer(snapshot(2, &[(CLUSTER, "a", "2")]));
    let second = session.respond().unwrap();
    assert!(!second.is_heartbeat);
    session.receive(ack(&beats[0])).unwrap();
    assert!(session.is_waiting(), "an ACK of a heartbeat is none of a change");
    session.receive(ack(&second)).unwrap();
    assert_eq!(session.respond(), None);
    assert!(!session.is_waiting());
}

#[test]
fn without_a_time_to_live_there_is_no_heartbeat() {
    let mut session = Session::<Delta>::new(snapshot(1, &[(CLUSTER, "a", "1")]), Client::default());
    session.receive(want(CLUSTER, &[], &[])).unwrap();
    let first = session.respond().unwrap();
    session.receive(ack(&first)).unwrap();
    assert!(session.heartbeat().is_empty());
}
