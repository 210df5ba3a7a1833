//! The whole snapshot: every resource encoded once, named by the digest of its bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use segue_proto::extension::v1::SnapshotMark;
use segue_shared::xds_names::{self, type_urls};
use xxhash_rust::xxh3::Xxh3;

use super::{NodeClass, ResolvedEndpoints, cluster, endpoint, listener, route};
use crate::config::mesh::MeshConfig;
use crate::snapshot::{EncodedResource, Resources, XdsSnapshot};

/// Compiles what nodes of a class get. The same input gives the same bytes on every machine, so a
/// client that reconnects to a restarted control plane is sent only what really changed.
pub fn compile(
    config: &MeshConfig,
    endpoints: &ResolvedEndpoints,
    class: &NodeClass,
) -> XdsSnapshot {
    let mut all = All::default();
    for service in config.services.values() {
        let traffic = config.traffic.get(&service.name).map(AsRef::as_ref);
        for version in &service.versions {
            let name = xds_names::cluster(&service.name, version.label.as_str());
            let cluster = cluster::compile(&name, service, traffic);
            all.add(type_urls::CLUSTER, &name, &cluster);
            let assignment = endpoint::compile(&name, version, endpoints);
            all.add(type_urls::ENDPOINT, &name, &assignment);
        }
    }
    let listener = listener::compile(class.outbound_address());
    all.add(type_urls::LISTENER, xds_names::OUTBOUND_LISTENER, &listener);
    let mut routes = route::compile(config);
    if *class == NodeClass::Sidecar {
        route::leave_out_mirrors(&mut routes);
    }
    all.add(type_urls::ROUTE, xds_names::OUTBOUND_ROUTES, &routes);
    all.finish(config)
}

#[derive(Default)]
struct All(BTreeMap<&'static str, Resources>);

impl All {
    fn add<M: Message>(&mut self, type_url: &'static str, name: &str, message: &M) {
        let resource = EncodedResource::new(type_url, name, message);
        let of_type = self.0.entry(type_url).or_default();
        of_type.insert(Arc::clone(resource.name()), Arc::new(resource));
    }

    /// Adds the mark, which is about all others.
    fn finish(mut self, config: &MeshConfig) -> XdsSnapshot {
        let mut digest = Xxh3::new();
        digest.update(&config.revision.0.to_le_bytes());
        for (type_url, resources) in &self.0 {
            for resource in resources.values() {
                for part in [*type_url, &**resource.name(), resource.version()] {
                    digest.update(part.as_bytes());
                    digest.update(&[0]);
                }
            }
        }
        let digest = digest.digest();
        let mark = SnapshotMark { revision: config.revision.0, digest };
        self.add(type_urls::SNAPSHOT_MARK, xds_names::SNAPSHOT_MARK, &mark);
        XdsSnapshot { revision: config.revision, digest, resources: self.0 }
    }
}
