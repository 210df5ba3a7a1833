//! What one class of node gets: resources by type and name, encoded once.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use segue_shared::ids::Revision;

/// The resources of one class of node at one moment.
#[derive(Clone, Debug, Default)]
pub struct XdsSnapshot {
    pub revision: Revision,
    /// Over names and versions of all resources, and the revision.
    pub digest: u64,
    /// Type URL to name to resource; only types that have resources.
    pub resources: BTreeMap<&'static str, BTreeMap<String, Arc<EncodedResource>>>,
}

/// One resource, encoded once and shared by all streams.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedResource {
    pub name: String,
    /// Digest of the encoded bytes in hexadecimal: equal bytes have equal versions, also after a
    /// restart of the control plane.
    pub version: String,
    pub body: Any,
}

impl XdsSnapshot {
    /// This snapshot, holding the very resources of an earlier one where they are equal.
    #[must_use]
    pub fn sharing(mut self, earlier: &Self) -> Self {
        for (type_url, resources) in &mut self.resources {
            let Some(known) = earlier.resources.get(type_url) else { continue };
            for (name, resource) in resources {
                match known.get(name) {
                    Some(same) if same.version == resource.version => {
                        *resource = Arc::clone(same);
                    }
                    _ => {}
                }
            }
        }
        self
    }

    /// The resources of a type, by name.
    pub fn of_type(&self, type_url: &str) -> Option<&BTreeMap<String, Arc<EncodedResource>>> {
        self.resources.get(type_url)
    }
}
