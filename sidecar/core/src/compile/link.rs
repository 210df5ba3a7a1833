//! From single resources to one snapshot. Resources come in any order; what is still missing is
//! waited for.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use segue_shared::ids::Revision;
use segue_shared::xds_names::{OUTBOUND_LISTENER, short_type, type_urls};

use super::cluster::{ClusterSpec, EndpointSource};
use super::endpoint::Assignment;
use super::listener::{Direction, Listener, RouteSource};
use super::resource::Compiled;
use super::route::RouteConfig;
use crate::snapshot::{Cluster, ClusterTable, CompiledSnapshot, Endpoint};

/// The newest good resource of each type and name.
#[derive(Debug, Default)]
pub struct Linker {
    listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    routes: BTreeMap<Arc<str>, Arc<RouteConfig>>,
    clusters: BTreeMap<Arc<str>, Arc<ClusterSpec>>,
    assignments: BTreeMap<Arc<str>, Arc<Assignment>>,
    /// Clusters as last linked, so that an unchanged one stays the same `Arc`.
    linked: BTreeMap<Arc<str>, Arc<Cluster>>,
    /// Routes as last linked.
    linked_routes: Option<Arc<RouteConfig>>,
}

/// What came of linking.
#[derive(Debug)]
pub enum Link {
    /// Every reference leads somewhere. The generation is left at 0.
    Ready(CompiledSnapshot),
    /// These are named and not there, as `Cluster default/chat/v2`.
    Waiting { missing: Vec<String> },
}

impl Linker {
    /// Takes a resource in place of the one of its type and name. Marks are not kept here.
    pub fn put(&mut self, resource: Compiled) {
        match resource {
            Compiled::Listener(it) => drop(self.listeners.insert(Arc::clone(&it.name), it)),
            Compiled::Routes(it) => drop(self.routes.insert(Arc::clone(&it.name), it)),
            Compiled::Cluster(it) => drop(self.clusters.insert(Arc::clone(&it.name), it)),
            Compiled::Assignment(it) => drop(self.assignments.insert(Arc::clone(&it.name), it)),
            Compiled::Mark(_) => {}
        }
    }

    /// Forgets a resource. Snapshots that were linked with it keep it.
    pub fn remove(&mut self, type_url: &str, name: &str) {
        match type_url {
            type_urls::LISTENER => drop(self.listeners.remove(name)),
            type_urls::ROUTE => drop(self.routes.remove(name)),
            type_urls::CLUSTER => drop(self.clusters.remove(name)),
            type_urls::ENDPOINT => drop(self.assignments.remove(name)),
            _ => {}
        }
    }

    /// Names of a type that are here.
    pub fn names(&self, type_url: &str) -> BTreeSet<String> {
        let owned = |name: &Arc<str>| name.to_string();
        match type_url {
            type_urls::LISTENER => self.listeners.keys().map(owned).collect(),
            type_urls::ROUTE => self.routes.keys().map(owned).collect(),
            type_urls::CLUSTER => self.clusters.keys().map(owned).collect(),
            type_urls::ENDPOINT => self.assignments.keys().map(owned).collect(),
            _ => BTreeSet::new(),
        }
    }

    /// Route configurations that listeners name: what to subscribe to.
    pub fn wanted_routes(&self) -> BTreeSet<String> {
        let sources = self.listeners.values().filter_map(|listener| listener.routes.as_ref());
        sources
            .filter_map(|source| match source {
                RouteSource::Rds(name) => Some(name.to_string()),
                RouteSource::Inline(_) => None,
            })
            .collect()
    }

    /// Load assignments that clusters name: what to subscribe to.
    pub fn wanted_assignments(&self) -> BTreeSet<String> {
        let specs = self.clusters.values();
        specs
            .filter_map(|spec| match &spec.source {
                EndpointSource::Eds(name) => Some(name.to_string()),
                EndpointSource::Static(_) => None,
            })
            .collect()
    }

    /// Links the outbound listener to its routes, those to their clusters, and these to their
    /// endpoints.
    pub fn link(&mut self, revision: Option<Revision>) -> Link {
        let Some(routes) = self.outbound() else {
            return Link::Waiting { missing: self.missing_head() };
        };
        let mut missing = Vec::new();
        let mut clusters = Vec::with_capacity(self.clusters.len().max(routes.clusters.len()));
        for name in &routes.clusters {
            match self.cluster(name) {
                Ok(cluster) => clusters.push(cluster),
                Err(what) => missing.push(what),
            }
        }
        if !missing.is_empty() {
            return Link::Waiting { missing };
        }
        Link::Ready(self.snapshot(&routes, clusters, revision))
    }

    /// The routes that linked last with the newest clusters, for as long as newer routes cannot
    /// link: endpoints go on changing. A cluster that is gone stays as it was.
    pub fn link_last_routes(&mut self, revision: Option<Revision>) -> Option<CompiledSnapshot> {
        let routes = self.linked_routes.clone()?;
        let last = |name: &Arc<str>| self.linked.get(name).map(Arc::clone);
        let clusters =
            routes.clusters.iter().map(|name| self.cluster(name).ok().or_else(|| last(name)));
        let clusters = clusters.collect::<Option<Vec<_>>>()?;
        Some(self.snapshot(&routes, clusters, revision))
    }

    /// A snapshot of routes and the clusters that they name. Clusters that no route names come after
    /// those that routes name by index.
    fn snapshot(
        &mut self,
        routes: &Arc<RouteConfig>,
        mut clusters: Vec<Arc<Cluster>>,
        revision: Option<Revision>,
    ) -> CompiledSnapshot {
        let routed: HashSet<&str> = routes.clusters.iter().map(|name| &**name).collect();
        let others = self.clusters.keys().filter(|name| !routed.contains(&***name));
        clusters.extend(others.filter_map(|name| self.cluster(name).ok()));
        self.linked = clusters.iter().map(|it| (Arc::clone(&it.name), Arc::clone(it))).collect();
        self.linked_routes = Some(Arc::clone(routes));
        CompiledSnapshot {
            generation: 0,
            revision,
            routes: Arc::clone(&routes.table),
            clusters: ClusterTable::with_routed(clusters, routes.clusters.len()),
        }
    }

    /// The listener of requests that leave the application: the one whose direction says so (of
    /// several the one with our name, then the first by name), else the only one.
    fn outbound_listener(&self) -> Option<&Arc<Listener>> {
        let outbound = || self.listeners.values().filter(|it| it.direction == Direction::Outbound);
        let ours = outbound().find(|it| &*it.name == OUTBOUND_LISTENER);
        ours.or_else(|| outbound().next()).or_else(|| {
            let mut usable = self.listeners.values().filter(|it| it.routes.is_some());
            usable.next().filter(|_| usable.next().is_none())
        })
    }

    fn outbound(&self) -> Option<Arc<RouteConfig>> {
        match self.outbound_listener()?.routes.as_ref()? {
            RouteSource::Inline(routes) => Some(Arc::clone(routes)),
            RouteSource::Rds(name) => self.routes.get(name).map(Arc::clone),
        }
    }

    fn missing_head(&self) -> Vec<String> {
        match self.outbound_listener().and_then(|listener| listener.routes.as_ref()) {
            Some(RouteSource::Rds(name)) => vec![named(type_urls::ROUTE, name)],
            _ => vec!["Listener with traffic_direction OUTBOUND".to_owned()],
        }
    }

    /// A cluster with its endpoints, or what is missing to it.
    fn cluster(&self, name: &str) -> Result<Arc<Cluster>, String> {
        let spec = self.clusters.get(name).ok_or_else(|| named(type_urls::CLUSTER, name))?;
        let endpoints: &Arc<[Endpoint]> = match &spec.source {
            EndpointSource::Static(endpoints) => endpoints,
            EndpointSource::Eds(name) => match self.assignments.get(name) {
                Some(assignment) => &assignment.endpoints,
                None => return Err(named(type_urls::ENDPOINT, name)),
            },
        };
        let cluster = Cluster {
            name: Arc::clone(&spec.name),
            version: spec.version.clone(),
            http: spec.http,
            connect_timeout: spec.connect_timeout,
            limits: spec.limits.clone(),
            endpoints: Arc::clone(endpoints),
        };
        match self.linked.get(name) {
            Some(before) if **before == cluster => Ok(Arc::clone(before)),
            _ => Ok(Arc::new(cluster)),
        }
    }
}

fn named(type_url: &str, name: &str) -> String {
    format!("{} {name}", short_type(type_url))
}
