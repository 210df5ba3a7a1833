//! Which resources a caller asks for, and how many of them fit in one message.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use prost::Message as _;
use segue_control_plane_core::config::{Kind, ResourceKey};
use segue_proto::admin::v1 as api;
use tonic::Status;

use super::answer;
use super::conditions::Outlook;
use crate::access::{Caller, Namespaces};
use crate::store::{StoredConfiguration, StoredResource};

/// A message ends before it is longer than this: common clients take 4 MiB. A single resource may
/// be longer.
pub const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// Which resources a caller asks for.
#[derive(Clone)]
pub struct Filter {
    kind: Option<Kind>,
    namespace: String,
    name: String,
    caller: Arc<Caller>,
}

impl Filter {
    /// Empty words match anything that the caller may see.
    pub fn new(
        kind: &str,
        namespace: String,
        name: String,
        caller: Arc<Caller>,
    ) -> Result<Self, Status> {
        Ok(Self { kind: answer::read_kind(kind)?, namespace, name, caller })
    }

    /// Whether the caller may see all namespaces.
    pub fn sees_everything(&self) -> bool {
        self.caller.namespaces == Namespaces::All
    }

    pub fn matches(&self, key: &ResourceKey) -> bool {
        self.kind.is_none_or(|kind| kind == key.kind) && self.matches_name(key)
    }

    /// What matches and comes after a key, in the order of keys. Looks only at kinds and
    /// namespaces that can match.
    pub fn select<'a>(
        &'a self,
        configuration: &'a StoredConfiguration,
        after: Option<&'a ResourceKey>,
    ) -> impl Iterator<Item = &'a Arc<StoredResource>> {
        let kinds = Kind::ALL.into_iter().filter(|kind| self.kind.is_none_or(|it| it == *kind));
        kinds.flat_map(move |kind| {
            // Without a namespace, names lie apart.
            let name = if self.namespace.is_empty() { "" } else { &self.name };
            let first = ResourceKey::new(kind, self.namespace.as_str(), name);
            let from = match after {
                Some(after) if *after >= first => Bound::Excluded(after.clone()),
                _ => Bound::Included(first),
            };
            configuration
                .resources
                .range((from, Bound::Unbounded))
                .take_while(move |(key, _)| {
                    key.kind == kind
                        && (self.namespace.is_empty() || self.namespace == key.namespace)
                        && (name.is_empty() || name == key.name)
                })
                .filter(|(key, _)| self.matches_name(key))
                .map(|(_, stored)| stored)
        })
    }

    fn matches_name(&self, key: &ResourceKey) -> bool {
        (self.namespace.is_empty() || self.namespace == key.namespace)
            && (self.name.is_empty() || self.name == key.name)
            && self.caller.sees(&key.namespace)
    }
}

/// Takes from the front of `rest` what fits in one message, at least one. `outlook` where the
/// resources are of the newest revision.
pub fn fill(
    rest: &mut VecDeque<Arc<StoredResource>>,
    most: usize,
    outlook: Option<&Outlook>,
) -> Vec<api::Entry> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    while entries.len() < most
        && let Some(next) = rest.pop_front()
    {
        let entry = answer::entry(StoredResource::clone(&next), outlook);
        bytes += entry.encoded_len();
        if bytes > PAGE_BYTES && !entries.is_empty() {
            rest.push_front(next);
            break;
        }
        entries.push(entry);
    }
    entries
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use segue_proto::config::v1::{self as wire, resource::Resource as Body};
    use segue_shared::ids::Revision;

    use super::*;
    use crate::access::Namespaces;

    /// Services and routes of three names in three namespaces.
    fn nine_of_each() -> StoredConfiguration {
        let mut configuration = StoredConfiguration::default();
        for (namespace, name) in
            ["a", "b", "c"].into_iter().flat_map(|ns| ["x", "y", "z"].map(|name| (ns, name)))
        {
            for kind in [Kind::Service, Kind::Route] {
                let key = ResourceKey::new(kind, namespace, name);
                let stored = stored(key.clone(), String::new());
                configuration.resources.insert(key, Arc::new(stored));
            }
        }
        configuration
    }

    fn stored(key: ResourceKey, label: String) -> StoredResource {
        let metadata = Some(wire::ObjectMeta {
            name: key.name.clone(),
            namespace: key.namespace.clone(),
            labels: [("l".to_owned(), label)].into(),
            ..wire::ObjectMeta::default()
        });
        let service = wire::Service { metadata, ..wire::Service::default() };
        StoredResource {
            key,
            resource: wire::Resource { resource: Some(Body::Service(service)) },
            revision: Revision(1),
            created_at: SystemTime::UNIX_EPOCH,
            changed_at: SystemTime::UNIX_EPOCH,
        }
    }

    /// May see two of the namespaces.
    fn caller() -> Arc<Caller> {
        let namespaces = Namespaces::Only(["b".to_owned(), "c".to_owned()].into());
        Arc::new(Caller { namespaces, ..Caller::anyone() })
    }

    #[test]
    fn a_selection_is_what_matches_from_any_key_on() {
        let all = nine_of_each();
        let keys: Vec<ResourceKey> = all.resources.keys().cloned().collect();
        for kind in ["", "Service", "Route", "Rollout"] {
            for namespace in ["", "a", "b", "none"] {
                for name in ["", "x", "z", "none"] {
                    let filter =
                        Filter::new(kind, namespace.into(), name.into(), caller()).unwrap();
                    for after in std::iter::once(None).chain(keys.iter().map(Some)) {
                        let expected: Vec<&ResourceKey> = keys
                            .iter()
                            .filter(|key| filter.matches(key) && after.is_none_or(|it| *key > it))
                            .collect();
                        let found: Vec<&ResourceKey> =
                            filter.select(&all, after).map(|stored| &stored.key).collect();
                        assert_eq!(found, expected, "{kind} {namespace} {name} after {after:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_message_ends_before_it_is_too_long() {
        // Each counts twice: as a message and as YAML.
        let long = |name: &str, bytes: usize| {
            let key = ResourceKey::new(Kind::Service, "default", name);
            Arc::new(stored(key, "x".repeat(bytes)))
        };
        let third = PAGE_BYTES / 6;
        let mut rest: VecDeque<_> = [
            long("a", third),
            long("b", third),
            long("c", third),
            long("d", 2 * PAGE_BYTES),
            long("e", 1),
            long("f", 1),
        ]
        .into();
        let mut pages = Vec::new();
        while !rest.is_empty() {
            let page = fill(&mut rest, 500, None);
            let bytes: usize = page.iter().map(prost::Message::encoded_len).sum();
            assert!(bytes <= PAGE_BYTES || page.len() == 1, "{bytes}");
            pages.push(page.len());
        }
        assert_eq!(pages, [2, 1, 1, 2]);
        let mut rest: VecDeque<_> = (0..7).map(|n| long(&n.to_string(), 1)).collect();
        assert_eq!((fill(&mut rest, 3, None).len(), rest.len()), (3, 4));
    }
}
