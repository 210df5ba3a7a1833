//! Snapshots of a tiny world, and requests about it, in either variant.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc::Status;
use prost::Message as _;
use segue_control_plane_core::snapshot::{EncodedResource, XdsSnapshot};
use segue_control_plane_core::xds::{
    Client, Delta, HeldType, Holding, Message, Response, StateOfTheWorld, Variant,
};
use segue_shared::ids::Revision;
use segue_shared::xds_names::type_urls::{
    CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, SNAPSHOT_MARK, VIRTUAL_HOST,
};

use super::client::{Held, Versions};
use crate::input::Input;

const TYPES: [&str; 8] = [
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    VIRTUAL_HOST,
    SNAPSHOT_MARK,
    SECRET,
    "type.googleapis.com/x.Unknown",
];
/// Names of each type; the last one is never there.
const NAMES: [&str; 5] = ["a", "b", "c", "*", "ghost"];
const THERE: usize = 3;

pub fn name(byte: u8) -> &'static str {
    NAMES[usize::from(byte) % NAMES.len()]
}

pub fn client(byte: u8) -> Client {
    Client {
        ttl: (byte & 1 == 1).then_some(Duration::from_secs(30)),
        resource_in_sotw: byte & 2 == 2,
        asks_in_part: byte & 4 == 4,
    }
}

/// A snapshot whose versions are in the input: a byte a type, of which each name has two bits, 0 for
/// one that is not there.
pub fn snapshot(revision: u64, input: &mut Input<'_>) -> Arc<XdsSnapshot> {
    let bytes = TYPES.map(|_| input.byte());
    built(revision, |kind, name| match bytes[kind] >> (2 * name) & 3 {
        0 => None,
        version => Some(version.to_string()),
    })
}

/// A snapshot with all that there can be, in versions that none had before.
pub fn last(revision: u64) -> Arc<XdsSnapshot> {
    built(revision, |_, _| Some("last".to_owned()))
}

fn built(revision: u64, version: impl Fn(usize, usize) -> Option<String>) -> Arc<XdsSnapshot> {
    let mut snapshot =
        XdsSnapshot { revision: Revision(revision), digest: revision, ..XdsSnapshot::default() };
    // There is never anything of the last type.
    for (kind, type_url) in TYPES[..TYPES.len() - 1].iter().enumerate() {
        for (i, name) in NAMES[..THERE].iter().enumerate() {
            let Some(version) = version(kind, i) else { continue };
            let value = format!("{name}={version}");
            let one = EncodedResource::with_version(type_url, name, &version, value.as_bytes());
            snapshot.resources.entry(type_url).or_default().insert((*name).into(), Arc::new(one));
        }
    }
    Arc::new(snapshot)
}

/// How a client speaks one variant.
pub trait Speech: Variant + Sized {
    /// A request of any bytes; `None` where they are none.
    fn decoded(bytes: &[u8]) -> Option<Self::Request>;

    /// A request for what the input says.
    fn asking(input: &mut Input<'_>, nonce: String) -> Self::Request;

    /// An ACK, or a NACK with its reason.
    fn answering(
        type_url: &str,
        nonce: String,
        reason: Option<String>,
        names: Vec<String>,
    ) -> Self::Request;

    /// What the client says that it has.
    fn brought(request: &Self::Request) -> Versions;

    /// Takes a response over, by way of its bytes.
    fn apply(held: &mut Held, response: &Response, wanted: &Holding);

    /// Whether clients are told what is gone of a type.
    fn tells_what_is_gone(of: &HeldType) -> bool;
}

impl Speech for Delta {
    fn decoded(bytes: &[u8]) -> Option<DeltaDiscoveryRequest> {
        DeltaDiscoveryRequest::decode(bytes).ok()
    }

    fn asking(input: &mut Input<'_>, nonce: String) -> DeltaDiscoveryRequest {
        let type_url = input.pick(&TYPES).to_owned();
        let (subscribe, unsubscribe, brought) = (input.byte(), input.byte(), input.byte());
        let brought = NAMES.iter().enumerate().filter(|(i, name)| {
            let is_brought = brought >> i & 1 == 1;
            is_brought && **name != "*"
        });
        DeltaDiscoveryRequest {
            type_url,
            response_nonce: nonce,
            resource_names_subscribe: names(subscribe),
            resource_names_unsubscribe: names(unsubscribe),
            initial_resource_versions: brought
                .map(|(i, name)| ((*name).to_owned(), (i % 4).to_string()))
                .collect(),
            ..DeltaDiscoveryRequest::default()
        }
    }

    fn answering(
        type_url: &str,
        nonce: String,
        reason: Option<String>,
        _names: Vec<String>,
    ) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            response_nonce: nonce,
            error_detail: reason.map(fault),
            ..DeltaDiscoveryRequest::default()
        }
    }

    fn brought(request: &DeltaDiscoveryRequest) -> Versions {
        request.initial_resource_versions.clone().into_iter().collect()
    }

    fn apply(held: &mut Held, sent: &Response, _wanted: &Holding) {
        let response: DeltaDiscoveryResponse = decoded::<Self, _>(sent);
        // Heartbeats come without bodies.
        let with_body = response.resources.iter().filter(|one| one.resource.is_some());
        let new = with_body.map(|one| (one.name.clone(), one.version.clone()));
        let new = unique(new, response.resources.iter().filter(|it| it.resource.is_some()).count());
        held.take(&response.type_url, new, &response.removed_resources, false);
    }

    fn tells_what_is_gone(_of: &HeldType) -> bool {
        true
    }
}

impl Speech for StateOfTheWorld {
    fn decoded(bytes: &[u8]) -> Option<DiscoveryRequest> {
        DiscoveryRequest::decode(bytes).ok()
    }

    fn asking(input: &mut Input<'_>, nonce: String) -> DiscoveryRequest {
        let type_url = input.pick(&TYPES).to_owned();
        let (ask, brought) = (input.byte(), input.byte());
        DiscoveryRequest {
            type_url,
            response_nonce: nonce,
            resource_names: names(ask),
            version_info: if brought & 1 == 1 { "some".to_owned() } else { String::new() },
            ..DiscoveryRequest::default()
        }
    }

    fn answering(
        type_url: &str,
        nonce: String,
        reason: Option<String>,
        names: Vec<String>,
    ) -> DiscoveryRequest {
        DiscoveryRequest {
            type_url: type_url.to_owned(),
            response_nonce: nonce,
            resource_names: names,
            error_detail: reason.map(fault),
            ..DiscoveryRequest::default()
        }
    }

    /// Which resources it has a client of this variant cannot say.
    fn brought(_request: &DiscoveryRequest) -> Versions {
        Versions::new()
    }

    fn apply(held: &mut Held, sent: &Response, wanted: &Holding) {
        let response: DiscoveryResponse = decoded::<Self, _>(sent);
        if sent.is_heartbeat {
            return;
        }
        let new = unique(response.resources.iter().map(body), response.resources.len());
        let of = wanted.types.iter().find(|of| *of.type_url == *response.type_url);
        let whole = of.is_some_and(Self::tells_what_is_gone);
        held.take(&response.type_url, new, &[], whole);
    }

    fn tells_what_is_gone(of: &HeldType) -> bool {
        let whole = [CLUSTER, LISTENER].contains(&&*of.type_url);
        whole || of.wildcard && *of.type_url == *VIRTUAL_HOST
    }
}

/// The names of these bits.
fn names(bits: u8) -> Vec<String> {
    let chosen = NAMES.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
    chosen.map(|(_, name)| (*name).to_owned()).collect()
}

fn fault(message: String) -> Status {
    Status { code: 13, message, ..Status::default() }
}

/// Name and version of a resource's body, which may be wrapped.
fn body(any: &Any) -> (String, String) {
    if any.type_url.ends_with("discovery.v3.Resource") {
        return body(&Resource::decode(&*any.value).unwrap().resource.unwrap());
    }
    let text = String::from_utf8(any.value.clone()).unwrap();
    let (name, version) = text.split_once('=').unwrap();
    (name.to_owned(), version.to_owned())
}

fn unique(all: impl Iterator<Item = (String, String)>, count: usize) -> Versions {
    let versions: Versions = all.collect();
    assert_eq!(versions.len(), count, "no name comes twice");
    versions
}

/// A response as its variant's message, by way of its bytes.
fn decoded<V: Variant, M: prost::Message + Default>(response: &Response) -> M {
    let mut message = Message::of::<V>(response.clone());
    let (announced, mut bytes) = (message.bytes(), Vec::new());
    message.put_first(&mut bytes);
    while let Some(part) = message.next_part() {
        bytes.extend_from_slice(&part);
    }
    assert_eq!(bytes.len(), announced);
    M::decode(&*bytes).unwrap()
}
