//! What differs between two inputs, and which services must therefore be compiled anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};
use segue_shared::ids::{ServiceName, VersionLabel};
use segue_shared::xds_names;

use super::ResolvedEndpoints;
use crate::config::mesh::{MeshConfig, Service, Version};

/// What snapshots are compiled from.
#[derive(Clone, Debug, Default)]
pub(super) struct Input {
    pub config: Arc<MeshConfig>,
    pub endpoints: Arc<ResolvedEndpoints>,
}

impl Input {
    /// What a service declares to depend on. `None` where it declares nothing.
    pub fn depends_on(&self, service: &ServiceName) -> Option<&[ServiceName]> {
        self.config.services.get(service)?.depends_on.as_deref()
    }
}

/// By service: those whose routes lead to it.
pub(super) type LedFrom = OrdMap<ServiceName, OrdSet<ServiceName>>;

/// What of a service changed, or may have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Touched {
    /// How callers reach its versions.
    pub entrance: bool,
    pub clusters: bool,
    pub endpoints: bool,
}

impl Touched {
    const ALL: Self = Self { entrance: true, clusters: true, endpoints: true };

    fn add(&mut self, other: Self) {
        self.entrance |= other.entrance;
        self.clusters |= other.clusters;
        self.endpoints |= other.endpoints;
    }
}

/// The services that are touched by what differs. Costs what differs.
pub(super) fn touched(
    before: &Input,
    after: &Input,
    led_from: &LedFrom,
) -> BTreeMap<ServiceName, Touched> {
    let mut all = BTreeMap::new();
    let mut touch = |name: &ServiceName, what: Touched| {
        all.entry(name.clone()).or_insert_with(Touched::default).add(what);
    };
    let entrance = Touched { entrance: true, ..Touched::default() };
    let (old, new) = (&*before.config, &*after.config);
    for item in old.services.diff(&new.services) {
        let (name, what, relabelled) = match item {
            DiffItem::Add(name, _) | DiffItem::Remove(name, _) => (name, Touched::ALL, true),
            DiffItem::Update { old: (name, old), new: (_, new) } => {
                (name, of_service(old, new), !labels(old).eq(labels(new)))
            }
        };
        touch(name, what);
        // The order of versions is the order of buckets in every route that leads to them.
        for other in relabelled.then(|| led_from.get(name)).flatten().into_iter().flatten() {
            touch(other, entrance);
        }
    }
    for name in changed_keys(&old.routes, &new.routes) {
        touch(name, entrance);
    }
    for name in changed_keys(&old.sessions, &new.sessions) {
        touch(name, entrance);
    }
    for name in changed_keys(&old.faults, &new.faults) {
        touch(name, entrance);
    }
    for name in changed_keys(&old.mtls, &new.mtls) {
        touch(name, entrance);
    }
    for name in changed_keys(&old.traffic, &new.traffic) {
        touch(name, Touched { clusters: true, ..Touched::default() });
    }
    for cluster in changed_keys(&before.endpoints.0, &after.endpoints.0) {
        if let Some((service, _)) = xds_names::parse_cluster(cluster) {
            touch(&service, Touched { endpoints: true, ..Touched::default() });
        }
    }
    all
}

fn of_service(old: &Service, new: &Service) -> Touched {
    // Without `..`, so that a new field has to say here what it touches.
    // What it depends on is a matter of scopes.
    let Service { name: _, protocol, hosts, port, versions, default_version, depends_on: _ } = old;
    let relabelled = !labels(old).eq(labels(new));
    let respoken = *protocol != new.protocol;
    let found = |version: &Version| {
        let Version { label: _, endpoints, localities, dns } = version;
        (endpoints.clone(), localities.clone(), dns.clone())
    };
    Touched {
        entrance: relabelled
            || respoken
            || *hosts != new.hosts
            || *port != new.port
            || *default_version != new.default_version,
        clusters: relabelled || respoken,
        endpoints: relabelled || !versions.iter().map(found).eq(new.versions.iter().map(found)),
    }
}

fn labels(service: &Service) -> impl Iterator<Item = &VersionLabel> {
    service.versions.iter().map(|version| &version.label)
}

fn changed_keys<'a, K: Ord, V: PartialEq>(
    before: &'a OrdMap<K, V>,
    after: &'a OrdMap<K, V>,
) -> impl Iterator<Item = &'a K> {
    before.diff(after).map(|item| match item {
        DiffItem::Add(key, _)
        | DiffItem::Remove(key, _)
        | DiffItem::Update { old: (key, _), .. } => key,
    })
}
