//! A response as gRPC frames it, in chunks that are made as the client takes them.

use std::marker::PhantomData;

use bytes::Bytes;
use segue_control_plane_core::xds::{Message, Response, Variant};
use tonic::Status;

use super::frames;

/// What is left of a response.
#[derive(Debug)]
pub(super) struct Chunks<V> {
    message: Message,
    begun: bool,
    of: PhantomData<fn() -> V>,
}

impl<V: Variant> Chunks<V> {
    pub fn of(response: Response) -> Self {
        Self { message: Message::of::<V>(response), begun: false, of: PhantomData }
    }

    /// Bytes of the whole message.
    pub fn bytes(&self) -> usize {
        self.message.bytes()
    }

    /// The next chunk; `None` after the last.
    pub fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(self.message.next_part());
        }
        let mut chunk = frames::begin(self.message.bytes(), self.message.first_bytes())?;
        self.message.put_first(&mut chunk);
        Ok(Some(chunk.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    use envoy_types::pb::envoy::service::discovery::v3::{
        DeltaDiscoveryResponse, DiscoveryResponse,
    };
    use prost::Message as _;
    use segue_control_plane_core::snapshot::{Batch, EncodedResource};
    use segue_control_plane_core::xds::{Delta, PART_BYTES, StateOfTheWorld};
    use segue_shared::xds_names::type_urls::CLUSTER;

    use super::*;

    type Clusters = Vec<Arc<EncodedResource>>;

    fn response(clusters: usize, batch: fn(Clusters) -> Arc<Batch>) -> Response {
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
            resources: batch((0..clusters).map(cluster).collect()),
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
        let few = [(0, 1), (3, 1), (1000, 20)].map(|(clusters, parts)| (clusters, parts, false));
        for (clusters, parts, is_shared) in few.into_iter().chain([(3, 1, true), (1000, 20, true)])
        {
            let batch = if is_shared { Batch::shared } else { Batch::single };
            let said = response(clusters, batch);
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
