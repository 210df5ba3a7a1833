//! The checked configuration at a revision, kept so that the next one costs what it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use segue_proto::config::v1::resource::Resource as Body;
use segue_proto::config::v1::{Resource, ServiceSpec};
use segue_shared::ids::{Revision, ServiceName};

use super::check::{check_one, comes_first, hosts, subject};
use super::key::{Kind, ResourceKey, key};
use super::lookup::{Scope, Services};
use super::mesh::MeshConfig;
use super::piece::clear;
use super::source::{Parsed, SourceMap};

/// A whole configuration without faults. A clone costs nothing, and shares with the next one all
/// that it does not change.
#[derive(Clone, Debug, Default)]
pub struct Declaration {
    resources: OrdMap<ResourceKey, Arc<Parsed>>,
    mesh: Arc<MeshConfig>,
    /// Who claims a host; in lower case.
    hosts: OrdMap<String, ResourceKey>,
    /// Who is the one of its kind about a service.
    subjects: OrdMap<(Kind, ServiceName), ResourceKey>,
    /// The services that each resource asked for when it was checked.
    asks: OrdMap<ResourceKey, Arc<[ServiceName]>>,
    /// The same from the other side: a service, and who asks for it.
    asked: OrdSet<(ServiceName, ResourceKey)>,
}

impl Declaration {
    pub fn revision(&self) -> Revision {
        self.mesh.revision
    }

    /// What it says, typed.
    pub fn mesh(&self) -> &Arc<MeshConfig> {
        &self.mesh
    }

    /// Number of resources.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    pub fn get(&self, key: &ResourceKey) -> Option<&Resource> {
        self.resources.get(key).map(|parsed| &parsed.resource)
    }

    /// Number of resources that differ from those of `other`. Costs what differs where one came
    /// from the other.
    pub fn differences(&self, other: &Self) -> usize {
        self.resources.diff(&other.resources).count()
    }

    /// The resources in the order of their keys.
    pub(super) fn resources(&self) -> impl Iterator<Item = (&ResourceKey, &Arc<Parsed>)> {
        self.resources.iter()
    }

    /// All that must be the same whichever way led here.
    #[cfg(test)]
    pub(super) fn indexes(&self) -> impl PartialEq + std::fmt::Debug {
        (
            self.resources.clone(),
            self.hosts.clone(),
            self.subjects.clone(),
            self.asks.clone(),
            self.asked.clone(),
        )
    }

    /// The configuration with a batch and without `deletes`; `None` where anything is wrong with
    /// it. What is wrong is for [`super::check::check_all`] to tell.
    pub(super) fn next(
        &self,
        revision: Revision,
        batch: &[Arc<Parsed>],
        deletes: &[ResourceKey],
    ) -> Option<Self> {
        let mut next = self.clone();
        let changes = next.replace_resources(batch, deletes)?;
        next.replace_claims(&changes)?;

        let mut mesh = MeshConfig::clone(&next.mesh);
        mesh.revision = revision;
        let dirty = next.dirty(&changes);
        let (first, others): (Vec<_>, Vec<_>) = dirty.into_iter().partition(comes_first);
        let (before, after): (Vec<_>, Vec<_>) =
            changes.iter().partition(|change| comes_first(&change.key));
        let resources = next.resources.clone();
        let services = Services::new(&resources);
        next.check(&mut mesh, &services, &first, &before)?;
        next.check(&mut mesh, &services, &others, &after)?;
        next.mesh = Arc::new(mesh);
        Some(next)
    }

    /// What changes, in the order of keys. `None`: the batch has one key twice.
    fn replace_resources(
        &mut self,
        batch: &[Arc<Parsed>],
        deletes: &[ResourceKey],
    ) -> Option<Vec<Changed>> {
        let mut wanted: BTreeMap<ResourceKey, Option<&Parsed>> =
            deletes.iter().map(|key| (key.clone(), None)).collect();
        for parsed in batch {
            if let Some(Some(_)) = wanted.insert(key(&parsed.resource), Some(parsed)) {
                return None;
            }
        }
        let mut changes = Vec::with_capacity(wanted.len());
        for (key, wanted) in wanted {
            let present = self.resources.get(&key);
            if present.map(|parsed| &parsed.resource) == wanted.map(|parsed| &parsed.resource) {
                continue;
            }
            let after = wanted.map(|parsed| {
                // Where it was written is of interest for this batch only.
                let resource = parsed.resource.clone();
                Arc::new(Parsed { resource, source: SourceMap::default() })
            });
            let before = match &after {
                Some(after) => self.resources.insert(key.clone(), Arc::clone(after)),
                None => self.resources.remove(&key),
            };
            changes.push(Changed { key, before, after });
        }
        Some(changes)
    }

    /// Brings up to date who has what only one may have. `None`: two claim the same.
    fn replace_claims(&mut self, changes: &[Changed]) -> Option<()> {
        for Changed { key, before, .. } in changes {
            let Some(before) = before else { continue };
            for (host, _) in hosts(key, &before.resource) {
                self.hosts.remove(&host);
            }
            if let Some(service) = subject(key, &before.resource) {
                self.subjects.remove(&(key.kind, service));
            }
        }
        for Changed { key, after, .. } in changes {
            let Some(after) = after else { continue };
            for (host, _) in hosts(key, &after.resource) {
                let owner = self.hosts.insert(host, key.clone());
                if owner.is_some_and(|owner| owner != *key) {
                    return None;
                }
            }
            if let Some(service) = subject(key, &after.resource)
                && self.subjects.insert((key.kind, service), key.clone()).is_some()
            {
                return None;
            }
        }
        Some(())
    }

    /// The resources that must be checked: those that changed, those that ask for a service that
    /// changed, and those that are checked against either.
    fn dirty(&self, changes: &[Changed]) -> BTreeSet<ResourceKey> {
        let mut dirty = BTreeSet::new();
        for change in changes {
            if change.after.is_some() {
                dirty.insert(change.key.clone());
            }
            if change.key.kind == Kind::Service && !change.moves_only() {
                let service =
                    ServiceName::new(change.key.namespace.clone(), change.key.name.clone());
                dirty.extend(self.who_asks_for(service));
            }
        }
        // Routes are checked against the session keys of the service that they are about.
        let sessions_of = |key: &ResourceKey, parsed: Option<&Arc<Parsed>>| {
            comes_first(key).then(|| subject(key, &parsed?.resource)).flatten()
        };
        let mut sessions: Vec<ServiceName> =
            dirty.iter().filter_map(|key| sessions_of(key, self.resources.get(key))).collect();
        sessions.extend(
            changes.iter().filter_map(|change| sessions_of(&change.key, change.before.as_ref())),
        );
        dirty.extend(
            sessions
                .into_iter()
                .filter_map(|service| self.subjects.get(&(Kind::Route, service)).cloned()),
        );
        dirty
    }

    /// Who asks for a service and still exists.
    fn who_asks_for(&self, service: ServiceName) -> impl Iterator<Item = ResourceKey> {
        let least = ResourceKey::new(Kind::ALL[0], "", "");
        let name = service.clone();
        self.asked
            .range((service, least)..)
            .take_while(move |(asked, _)| *asked == name)
            .map(|(_, key)| key)
            .filter(|key| self.resources.contains_key(*key))
            .cloned()
    }

    /// Checks `dirty` and replaces their pieces of the mesh and those of `changes`. `None`:
    /// something is wrong.
    fn check(
        &mut self,
        mesh: &mut MeshConfig,
        services: &Services<'_>,
        dirty: &[ResourceKey],
        changes: &[&Changed],
    ) -> Option<()> {
        let mut faults = Vec::new();
        let mut pieces = Vec::with_capacity(dirty.len());
        for key in dirty {
            let parsed = Arc::clone(self.resources.get(key)?);
            let scope = &mut Scope::new(key, &parsed.source, &mut faults);
            let piece = check_one(scope, services, mesh, &parsed.resource);
            if !faults.is_empty() {
                return None;
            }
            self.set_asks(key, &services.take_asked());
            pieces.extend(piece);
        }
        for Changed { key, before, after } in changes {
            if after.is_none() {
                self.set_asks(key, &[]);
            }
            let was = before.as_ref().and_then(|before| subject(key, &before.resource));
            // Whoever is the one of its kind now puts its own piece there.
            if let Some(service) = was
                && !self.subjects.contains_key(&(key.kind, service.clone()))
            {
                clear(mesh, key.kind, &service);
            }
        }
        for piece in pieces {
            piece.put(mesh);
        }
        Some(())
    }

    fn set_asks(&mut self, key: &ResourceKey, services: &[ServiceName]) {
        if self.asks.get(key).map_or(&[][..], AsRef::as_ref) == services {
            return;
        }
        for service in services {
            self.asked.insert((service.clone(), key.clone()));
        }
        let before = if services.is_empty() {
            self.asks.remove(key)
        } else {
            self.asks.insert(key.clone(), services.into())
        };
        for service in before.iter().flat_map(|before| before.iter()) {
            if services.binary_search(service).is_err() {
                self.asked.remove(&(service.clone(), key.clone()));
            }
        }
    }
}

/// A resource before and after a batch; they differ.
struct Changed {
    key: ResourceKey,
    before: Option<Arc<Parsed>>,
    after: Option<Arc<Parsed>>,
}

impl Changed {
    /// Whether a service changes in nothing but where its instances are and which hosts lead to
    /// it, which is no one else's business.
    fn moves_only(&self) -> bool {
        let bare = |parsed: &Option<Arc<Parsed>>| -> Option<ServiceSpec> {
            let Body::Service(it) = parsed.as_ref()?.resource.resource.as_ref()? else {
                return None;
            };
            let mut spec = it.spec.clone()?;
            spec.hosts.clear();
            for version in &mut spec.versions {
                version.endpoints.clear();
                version.localities.clear();
                version.dns.clear();
            }
            Some(spec)
        };
        let before = bare(&self.before);
        before.is_some() && before == bare(&self.after)
    }
}
