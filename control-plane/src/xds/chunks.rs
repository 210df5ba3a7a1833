//! A response as bytes, made part by part as the client takes them.
//!
//! Protobuf allows it: messages that follow each other are one message with the repeated fields of
//! all. So a response of a megabyte that waits for a slow client costs a list of what is in it, and
//! the part that is on its way.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use segue_control_plane_core::xds::{Response, Variant};
use tonic::Status;

use super::frames;
use super::settings::PART_BYTES;

/// What is left of a response.
#[derive(Debug)]
pub(super) struct Chunks<V> {
    /// How long the whole message is; `None` once that is said.
    bytes: Option<usize>,
    parts: VecDeque<Response>,
    of: PhantomData<fn() -> V>,
}

impl<V: Variant> Chunks<V> {
    pub fn of(response: Response) -> Self {
        let parts = split(response);
        let bytes = parts.iter().map(V::encoded_len).sum();
        Self { bytes: Some(bytes), parts, of: PhantomData }
    }

    /// Bytes of the whole message.
    pub fn bytes(&self) -> usize {
        self.bytes.unwrap_or(0)
    }

    /// The next chunk; `None` after the last.
    pub fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(part) = self.parts.pop_front() else { return Ok(None) };
        let mut chunk = frames::begin(self.bytes.take(), V::encoded_len(&part))?;
        V::encode(&part, &mut chunk);
        Ok(Some(chunk.freeze()))
    }
}

/// Parts that together say the same. Most responses are one.
fn split(mut response: Response) -> VecDeque<Response> {
    let mut parts = VecDeque::with_capacity(1);
    let resources = std::mem::take(&mut response.resources);
    let unsaid = |response: &Response| Response {
        type_url: "".into(),
        nonce: String::new(),
        version_info: String::new(),
        resources: Vec::new(),
        removed: Vec::new(),
        errors: Vec::new(),
        ..*response
    };
    let mut bytes = 0;
    for resource in resources {
        if bytes > PART_BYTES {
            let next = unsaid(&response);
            parts.push_back(std::mem::replace(&mut response, next));
            bytes = 0;
        }
        bytes += resource.wrapped().len();
        response.resources.push(Arc::clone(&resource));
    }
    parts.push_back(response);
    parts
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    use envoy_types::pb::envoy::service::discovery::v3::{
        DeltaDiscoveryResponse, DiscoveryResponse,
    };
    use prost::Message;
    use segue_control_plane_core::snapshot::EncodedResource;
    use segue_control_plane_core::xds::{Delta, StateOfTheWorld};
    use segue_shared::xds_names::type_urls::CLUSTER;

    use super::*;

    fn response(clusters: usize) -> Response {
        let cluster = |i| {
            let name = format!("default/chat/v{i:06}");
            let alt_stat_name = "x".repeat(500);
            let message = Cluster { name: name.clone(), alt_stat_name, ..Cluster::default() };
            Arc::new(EncodedResource::new(CLUSTER, &name, &message))
        };
        Response {
            type_url: CLUSTER.into(),
            nonce: "7".to_owned(),
            version_info: "9".to_owned(),
            resources: (0..clusters).map(cluster).collect(),
            removed: vec!["default/gone/v1".into()],
            errors: Vec::new(),
            ttl: None,
            is_heartbeat: false,
        }
    }

    fn whole<V: Variant>(response: Response) -> (Vec<u8>, usize) {
        let mut chunks = Chunks::<V>::of(response);
        let announced = chunks.bytes();
        let (mut all, mut count) = (Vec::new(), 0);
        while let Some(chunk) = chunks.next().unwrap() {
            assert!(chunk.len() < PART_BYTES + 4096);
            all.extend_from_slice(&chunk);
            count += 1;
        }
        assert_eq!(all[0], 0, "not compressed");
        assert_eq!(all[1..5], u32::try_from(announced).unwrap().to_be_bytes());
        assert_eq!(all.len(), announced + 5);
        (all.split_off(5), count)
    }

    #[test]
    fn a_response_in_parts_reads_as_one() {
        for (clusters, parts) in [(0, 1), (3, 1), (1000, 19)] {
            let said = response(clusters);
            let (bytes, count) = whole::<Delta>(said.clone());
            assert_eq!(count, parts);
            let read = DeltaDiscoveryResponse::decode(&*bytes).unwrap();
            assert_eq!((&*read.type_url, &*read.nonce), (CLUSTER, "7"));
            assert_eq!(read.removed_resources, ["default/gone/v1"]);
            assert_eq!(read.control_plane.unwrap().identifier, "segue");
            let names = read.resources.iter().map(|resource| &*resource.name);
            assert!(names.eq(said.resources.iter().map(|resource| &**resource.name())));

            let read = DiscoveryResponse::decode(&*whole::<StateOfTheWorld>(said).0).unwrap();
            assert_eq!((&*read.version_info, read.resources.len()), ("9", clusters));
        }
    }
}
