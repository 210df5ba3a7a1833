//! What one class of node gets: resources by type and name, encoded once.

mod batch;
mod transition;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use imbl::OrdMap;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use segue_shared::ids::Revision;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};
use zeroize::Zeroizing;

pub use batch::{Batch, Form};
pub use transition::{Transition, Transitions};

/// Resources of one type by name. Copies share everything, and two snapshots share what is the same
/// in both, so that comparing them costs what differs.
pub type Resources = OrdMap<Arc<str>, Arc<EncodedResource>>;

/// The resources of one class of node at one moment.
#[derive(Clone, Debug, Default)]
pub struct XdsSnapshot {
    pub revision: Revision,
    /// Over types, names and versions of all resources, and the revision. Equal digests stand for
    /// equal snapshots, also between replicas.
    pub digest: u64,
    /// Type URL to resources; only types that have any.
    pub resources: BTreeMap<&'static str, Resources>,
    /// How clients get here.
    pub transitions: Transitions,
}

impl XdsSnapshot {
    /// The resources of a type, by name.
    pub fn of_type(&self, type_url: &str) -> Option<&Resources> {
        self.resources.get(type_url)
    }
}

/// One resource, encoded once: every stream writes these very bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodedResource {
    name: Arc<str>,
    version: Arc<str>,
    /// A whole `envoy.service.discovery.v3.Resource`; its last field is the resource as `Any`.
    wire: Bytes,
    /// Where that `Any` begins in `wire`.
    any_at: usize,
    /// Where the `Any`'s value begins in `wire`.
    value_at: usize,
}

/// Field numbers of `envoy.service.discovery.v3.Resource`.
const VERSION: u32 = 1;
const RESOURCE: u32 = 2;
const NAME: u32 = 3;
/// Field numbers of `google.protobuf.Any`.
const TYPE_URL: u32 = 1;
const VALUE: u32 = 2;

impl EncodedResource {
    /// Encodes a message. Its version is the digest of its bytes: equal bytes have equal versions,
    /// also after a restart of the control plane and on another replica of it.
    pub fn new(type_url: &str, name: &str, message: &impl Message) -> Self {
        Self::of_bytes(type_url, name, &message.encode_to_vec())
    }

    /// As [`EncodedResource::new`], of an encoded message.
    pub fn of_bytes(type_url: &str, name: &str, value: &[u8]) -> Self {
        let version = format!("{:016x}", xxh3_64(value));
        Self::with_version(type_url, name, &version, value)
    }

    /// As [`EncodedResource::of_bytes`], of what is overwritten when nobody holds it any more.
    pub fn secret(type_url: &str, name: &str, value: &[u8]) -> Self {
        let version = format!("{:016x}", xxh3_64(value));
        let (wire, any_at, value_at) = wire(type_url, name, &version, value);
        let wire = Bytes::from_owner(Zeroizing::new(Vec::from(wire)));
        Self { name: name.into(), version: version.into(), wire, any_at, value_at }
    }

    /// As [`EncodedResource::of_bytes`], with a version that says as much.
    pub fn with_version(type_url: &str, name: &str, version: &str, value: &[u8]) -> Self {
        let (wire, any_at, value_at) = wire(type_url, name, version, value);
        Self { name: name.into(), version: version.into(), wire: wire.freeze(), any_at, value_at }
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Sixteen hexadecimal digits.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A digest over type, name and version, made for sums: those of a snapshot's resources are added
    /// up, so that replacing one of them is one subtraction and one addition.
    pub fn digest(&self, type_url: &str) -> u64 {
        let mut digest = Xxh3::new();
        for part in [type_url, &*self.name, self.version()] {
            digest.update(part.as_bytes());
            digest.update(&[0]);
        }
        digest.digest()
    }

    /// An encoded `envoy.service.discovery.v3.Resource`, as delta responses hold it.
    pub fn wrapped(&self) -> Bytes {
        self.wire.clone()
    }

    /// An encoded `google.protobuf.Any`, as state-of-the-world responses hold it.
    pub fn any(&self) -> Bytes {
        self.wire.slice(self.any_at..)
    }

    /// The encoded message itself.
    pub fn value(&self) -> Bytes {
        self.wire.slice(self.value_at..)
    }
}

impl fmt::Debug for EncodedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// A whole `Resource`; also where its `Any` begins, and where the `Any`'s value does.
fn wire(type_url: &str, name: &str, version: &str, value: &[u8]) -> (BytesMut, usize, usize) {
    let value_bytes = value.len();
    let any_bytes = text_len(TYPE_URL, type_url) + head_len(VALUE, value_bytes) + value_bytes;
    let mut wire = BytesMut::with_capacity(
        text_len(VERSION, version)
            + text_len(NAME, name)
            + head_len(RESOURCE, any_bytes)
            + any_bytes,
    );
    put_text(&mut wire, VERSION, version);
    put_text(&mut wire, NAME, name);
    put_head(&mut wire, RESOURCE, any_bytes);
    let any_at = wire.len();
    put_text(&mut wire, TYPE_URL, type_url);
    put_head(&mut wire, VALUE, value_bytes);
    let value_at = wire.len();
    wire.put_slice(value);
    (wire, any_at, value_at)
}

fn head_len(field: u32, bytes: usize) -> usize {
    key_len(field) + encoded_len_varint(bytes as u64)
}

fn text_len(field: u32, text: &str) -> usize {
    head_len(field, text.len()) + text.len()
}

fn put_head(to: &mut BytesMut, field: u32, bytes: usize) {
    encode_key(field, WireType::LengthDelimited, to);
    encode_varint(bytes as u64, to);
}

fn put_text(to: &mut BytesMut, field: u32, text: &str) {
    put_head(to, field, text.len());
    to.put_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    use envoy_types::pb::envoy::service::discovery::v3::Resource;
    use envoy_types::pb::google::protobuf::Any;
    use segue_shared::xds_names::type_urls::CLUSTER;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let cluster = Cluster { name: "default/chat/v1".to_owned(), ..Cluster::default() };
        let encoded = EncodedResource::new(CLUSTER, &cluster.name, &cluster);
        let any = Any { type_url: CLUSTER.to_owned(), value: cluster.encode_to_vec() };
        assert_eq!(Any::decode(encoded.any()).unwrap(), any);
        assert_eq!(Cluster::decode(encoded.value()).unwrap(), cluster);
        let wrapped = Resource::decode(encoded.wrapped()).unwrap();
        assert_eq!((wrapped.name, wrapped.resource), (cluster.name, Some(any)));
        assert_eq!(wrapped.version, encoded.version());
    }

    #[test]
    fn an_empty_message_has_a_version_too() {
        let encoded = EncodedResource::new(CLUSTER, "a", &Cluster::default());
        assert_eq!(Cluster::decode(encoded.value()).unwrap(), Cluster::default());
        assert_eq!(encoded.version().len(), 16);
    }
}
