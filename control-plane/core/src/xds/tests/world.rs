//! Snapshots for tests, and words for requests.

use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc::Status;
use segue_shared::ids::Revision;

use crate::snapshot::{EncodedResource, XdsSnapshot};
use crate::xds::{Message, Response, Variant};

/// A response as its variant's message, by way of its bytes.
pub fn decoded<V: Variant, M: prost::Message + Default>(response: &Response) -> M {
    let mut message = Message::of::<V>(response.clone());
    let (announced, mut bytes) = (message.bytes(), Vec::new());
    message.put_first(&mut bytes);
    while let Some(part) = message.next_part() {
        bytes.extend_from_slice(&part);
    }
    assert_eq!(bytes.len(), announced);
    M::decode(&*bytes).unwrap()
}

/// A snapshot of `(type, name, version)`.
pub fn snapshot(revision: u64, resources: &[(&'static str, &str, &str)]) -> Arc<XdsSnapshot> {
    let mut snapshot =
        XdsSnapshot { revision: Revision(revision), digest: revision, ..XdsSnapshot::default() };
    for &(type_url, name, version) in resources {
        let value = format!("{name}={version}");
        let resource = EncodedResource::with_version(type_url, name, version, value.as_bytes());
        let all = snapshot.resources.entry(type_url).or_default();
        all.insert(name.into(), Arc::new(resource));
    }
    Arc::new(snapshot)
}

/// `name=version` of a resource's body.
pub fn text(body: &Any) -> String {
    String::from_utf8(body.value.clone()).unwrap()
}

fn body(resource: &EncodedResource) -> String {
    String::from_utf8(resource.value().to_vec()).unwrap()
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// A delta request that subscribes.
pub fn want(type_url: &str, subscribe: &[&str], unsubscribe: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url.to_owned(),
        resource_names_subscribe: owned(subscribe),
        resource_names_unsubscribe: owned(unsubscribe),
        ..DeltaDiscoveryRequest::default()
    }
}

/// A delta request of a client that connects again.
pub fn again(type_url: &str, subscribe: &[&str], has: &[(&str, &str)]) -> DeltaDiscoveryRequest {
    let pair = |&(name, version): &(&str, &str)| (name.to_owned(), version.to_owned());
    DeltaDiscoveryRequest {
        initial_resource_versions: has.iter().map(pair).collect(),
        ..want(type_url, subscribe, &[])
    }
}

/// The ACK of a delta response.
pub fn ack(response: &Response) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        response_nonce: response.nonce.clone(),
        ..want(&response.type_url, &[], &[])
    }
}

/// The NACK of a delta response.
pub fn nack(response: &Response, message: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { error_detail: Some(fault(message)), ..ack(response) }
}

/// A refusal's reason.
pub fn fault(message: &str) -> Status {
    Status { code: 13, message: message.to_owned(), ..Status::default() }
}

/// What a delta response says: `+name=version` and `-name`.
pub fn said(response: &Response) -> String {
    let added = response.resources.iter().map(|one| format!("+{}", body(one)));
    let removed = response.removed.iter().map(|name| format!("-{name}"));
    added.chain(removed).collect::<Vec<_>>().join(" ")
}

/// A first state-of-the-world request of a type.
pub fn ask(type_url: &str, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: type_url.to_owned(),
        resource_names: owned(names),
        ..DiscoveryRequest::default()
    }
}

/// The answer to a state-of-the-world response, which repeats the names.
pub fn accept(response: &Response, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: response.version_info.clone(),
        response_nonce: response.nonce.clone(),
        ..ask(&response.type_url, names)
    }
}

/// All that a state-of-the-world response holds.
pub fn holds(response: &Response) -> String {
    response.resources.iter().map(|one| body(one)).collect::<Vec<_>>().join(" ")
}
