//! From single resources to one snapshot. Resources come in any order; what is still missing is
//! waited for.

mod admit;
mod callers;
mod host;
mod names;
mod place;
mod tcp;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use segue_shared::ids::Revision;
use segue_shared::xds_names::{OUTBOUND_LISTENER, short_type, type_urls};

use self::admit::KeptHost;
use self::callers::OwnService;
use self::host::{Configuration, Domains, Host, Routes};
use self::names::Names;
use self::place::Places;
use self::tcp::TcpService;
use super::cluster::ClusterSpec;
use super::discovery::EndpointSource;
use super::endpoint::Assignment;
use super::listener::Direction;
use crate::balance;
use crate::canonical::EscapedSlashes;
use crate::snapshot::{Cluster, ClusterTable, CompiledSnapshot, Endpoint, InboundMtls, KeyTable};

/// The newest good resource of each type and name.
#[derive(Debug, Default)]
pub struct Linker {
    listeners: BTreeMap<Arc<str>, KeptListener>,
    routes: BTreeMap<Arc<str>, Arc<Configuration>>,
    /// Virtual hosts that came as resources of their own.
    hosts: BTreeMap<Arc<str>, KeptHost>,
    /// Whether the control plane has told the virtual hosts that there are.
    hosts_told: bool,
    domains: Domains,
    places: Places,
    clusters: BTreeMap<Arc<str>, Arc<ClusterSpec>>,
    assignments: BTreeMap<Arc<str>, Arc<Assignment>>,
    names: Names,
    own: OwnService,
    /// What callers of the application have to show.
    inbound: Option<InboundMtls>,
    /// Clusters as last linked, so that an unchanged one stays the same `Arc`.
    linked: HashMap<Arc<str>, LinkedCluster>,
    /// Routes as last linked.
    linked_routes: Option<Arc<Routes>>,
    /// The newest routes, linked or not; `None` after a change.
    newest: Option<Arc<Routes>>,
}

/// A listener and its routes.
#[derive(Debug)]
struct KeptListener {
    direction: Direction,
    routes: Option<KeptSource>,
    escaped_slashes: Option<EscapedSlashes>,
    tcp: Vec<Arc<TcpService>>,
}

#[derive(Debug)]
enum KeptSource {
    Rds(Arc<str>),
    Inline(Arc<Configuration>),
}

/// A cluster, and what it was made of.
#[derive(Debug)]
struct LinkedCluster {
    spec: Arc<ClusterSpec>,
    endpoints: Arc<[Endpoint]>,
    cluster: Arc<Cluster>,
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
    /// Names of a type that are here.
    pub fn names(&self, type_url: &str) -> BTreeSet<String> {
        let owned = |name: &Arc<str>| name.to_string();
        match type_url {
            type_urls::LISTENER => self.listeners.keys().map(owned).collect(),
            type_urls::ROUTE => self.routes.keys().map(owned).collect(),
            type_urls::VIRTUAL_HOST => self.hosts.keys().map(owned).collect(),
            type_urls::CLUSTER => self.clusters.keys().map(owned).collect(),
            type_urls::ENDPOINT => self.assignments.keys().map(owned).collect(),
            type_urls::INBOUND => {
                self.inbound.iter().map(|_| self.own.service().to_owned()).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Route configurations that listeners name: what to subscribe to.
    pub fn wanted_routes(&self) -> BTreeSet<String> {
        let sources = self.listeners.values().filter_map(|listener| listener.routes.as_ref());
        sources
            .filter_map(|source| match source {
                KeptSource::Rds(name) => Some(name.to_string()),
                KeptSource::Inline(_) => None,
            })
            .collect()
    }

    /// Route configurations whose virtual hosts come as resources of their own.
    pub fn wanted_hosts(&self) -> BTreeSet<String> {
        let apart = |name: &String| self.routes.get(name.as_str()).is_some_and(|it| it.vhds);
        self.wanted_routes().into_iter().filter(apart).collect()
    }

    /// Load assignments that clusters name: what to subscribe to.
    pub fn wanted_assignments(&self) -> BTreeSet<String> {
        let specs = self.clusters.values();
        specs
            .filter_map(|spec| match &spec.source {
                EndpointSource::Eds(name) => Some(name.to_string()),
                EndpointSource::Static(_) | EndpointSource::Dns(_) => None,
            })
            .collect()
    }

    /// What the sidecar's own service asks of its callers: what to subscribe to.
    pub fn wanted_inbound(&self) -> BTreeSet<String> {
        let own = Some(self.own.service()).filter(|service| !service.is_empty());
        own.map(ToOwned::to_owned).into_iter().collect()
    }

    /// The control plane has told all virtual hosts that there are now, if any. Until then, or the
    /// first one, a configuration that takes them waits.
    pub fn hosts_told(&mut self) {
        self.hosts_told = true;
    }

    /// Links the outbound listener to its routes, those to their clusters, and these to their
    /// endpoints.
    pub fn link(&mut self, revision: Option<Revision>) -> Link {
        self.count_callers();
        let Some(routes) = self.newest_routes() else {
            return Link::Waiting { missing: self.missing_head() };
        };
        let mut missing = Vec::new();
        for place in &routes.places {
            if let Err(what) = self.cluster(&place.name) {
                missing.push(what);
            }
        }
        if !missing.is_empty() {
            return Link::Waiting { missing };
        }
        Link::Ready(self.snapshot(routes, revision))
    }

    /// The newest of all that links, for as long as the whole does not: a virtual host that cannot
    /// link stays as it was when it last did, clusters of it that are gone as well, and one that
    /// never did is left out. `None` where there are no routes, now or before.
    pub fn link_held(&mut self, revision: Option<Revision>) -> Option<CompiledSnapshot> {
        self.count_callers();
        let last = self.linked_routes.clone();
        let Some(newest) = self.newest_routes() else {
            return Some(self.snapshot(last?, revision));
        };
        let last_hosts = last.iter().flat_map(|last| &last.hosts);
        let before: HashMap<&str, &Arc<Host>> = last_hosts.map(|host| (&*host.key, host)).collect();
        let (mut hosts, mut held) = (Vec::with_capacity(newest.hosts.len()), Vec::new());
        for host in &newest.hosts {
            if host.places.iter().all(|place| self.cluster(&place.name).is_ok()) {
                hosts.push(Arc::clone(host));
            } else if let Some(before) = before.get(&*host.key) {
                held.push(Arc::clone(before));
            }
        }
        // Those that link go first: a domain may have moved to one of them.
        hosts.append(&mut held);
        let before = last.as_ref().map_or(&[][..], |last| &last.tcp);
        let tcp = self.linkable_tcp(&newest.tcp, before);
        let routes = Arc::new(Routes::new(hosts, newest.table.ignore_port, tcp));
        Some(self.snapshot(routes, revision))
    }

    /// A snapshot of routes and the clusters that they name. A cluster that is gone stays as it was.
    /// Clusters that no route names come after those that routes name by index.
    fn snapshot(&mut self, routes: Arc<Routes>, revision: Option<Revision>) -> CompiledSnapshot {
        let mut placed: Vec<Option<Arc<Cluster>>> = vec![None; self.places.len()];
        let mut routed: HashSet<&str> = HashSet::with_capacity(routes.places.len());
        for place in &routes.places {
            let cluster = self.cluster(&place.name).ok();
            let last = || self.linked.get(&place.name).map(|last| Arc::clone(&last.cluster));
            if let Some(slot) = placed.get_mut(place.index.0 as usize) {
                *slot = cluster.or_else(last);
            }
            routed.insert(&place.name);
        }
        let names: Vec<Arc<str>> =
            self.clusters.keys().filter(|name| !routed.contains(&***name)).cloned().collect();
        let others: Vec<Arc<Cluster>> =
            names.iter().filter_map(|name| self.cluster(name).ok()).collect();
        let clusters = ClusterTable::placed(placed, others);
        if self.linked.len() > clusters.len() {
            self.linked.retain(|name, _| clusters.index_of(name).is_some());
        }
        let (table, tcp) = (Arc::clone(&routes.table), Arc::clone(&routes.tcp_table));
        self.linked_routes = Some(routes);
        let escaped_slashes = self.outbound_listener().and_then(|it| it.escaped_slashes);
        CompiledSnapshot {
            generation: 0,
            revision,
            routes: table,
            tcp,
            clusters,
            escaped_slashes,
            inbound_mtls: self.inbound,
        }
    }

    /// All routes of the outbound listener: virtual hosts of the configuration, and those that came
    /// apart. `None` where some are still to come.
    fn newest_routes(&mut self) -> Option<Arc<Routes>> {
        if let Some(newest) = &self.newest {
            return Some(Arc::clone(newest));
        }
        let configuration = self.outbound()?;
        if configuration.vhds && !self.hosts_told {
            return None;
        }
        self.places.sweep();
        let mut hosts = configuration.hosts.clone();
        if configuration.vhds {
            let apart = self.hosts.values().filter(|it| it.configuration == configuration.name);
            hosts.extend(apart.map(|it| Arc::clone(&it.host)));
        }
        let tcp = self.listeners.values().flat_map(|it| &it.tcp).map(Arc::clone).collect();
        let routes = Arc::new(Routes::new(hosts, configuration.ignore_port, tcp));
        self.newest = Some(Arc::clone(&routes));
        Some(routes)
    }

    /// The listener of requests that leave the application: the one whose direction says so (of
    /// several the one with our name, then the first by name), else the only one.
    fn outbound_listener(&self) -> Option<&KeptListener> {
        let http = || self.listeners.iter().filter(|(_, it)| it.tcp.is_empty());
        let outbound = || http().filter(|(_, it)| it.direction == Direction::Outbound);
        let ours = outbound().find(|(name, _)| &***name == OUTBOUND_LISTENER);
        let found = ours.or_else(|| outbound().next()).or_else(|| {
            let mut usable = http().filter(|(_, it)| it.routes.is_some());
            usable.next().filter(|_| usable.next().is_none())
        });
        found.map(|(_, listener)| listener)
    }

    fn outbound(&self) -> Option<Arc<Configuration>> {
        match self.outbound_listener()?.routes.as_ref()? {
            KeptSource::Inline(routes) => Some(Arc::clone(routes)),
            KeptSource::Rds(name) => self.routes.get(name).map(Arc::clone),
        }
    }

    fn missing_head(&self) -> Vec<String> {
        let Some(source) = self.outbound_listener().and_then(|it| it.routes.as_ref()) else {
            return vec!["Listener with traffic_direction OUTBOUND".to_owned()];
        };
        match source {
            KeptSource::Rds(name) if self.routes.contains_key(name) => {
                vec![named(type_urls::VIRTUAL_HOST, &format!("{name}/*"))]
            }
            KeptSource::Rds(name) => vec![named(type_urls::ROUTE, name)],
            KeptSource::Inline(_) => Vec::new(),
        }
    }

    /// A cluster with its endpoints, or what is missing to it.
    fn cluster(&mut self, name: &Arc<str>) -> Result<Arc<Cluster>, String> {
        let spec = self.clusters.get(name).ok_or_else(|| named(type_urls::CLUSTER, name))?;
        let callers = self.own.callers_of(spec);
        let before = self.linked.get(name);
        let endpoints: &Arc<[Endpoint]> = match &spec.source {
            EndpointSource::Static(endpoints) => endpoints,
            EndpointSource::Eds(name) => match self.assignments.get(name) {
                Some(assignment) => &assignment.endpoints,
                None => return Err(named(type_urls::ENDPOINT, name)),
            },
            EndpointSource::Dns(dns) => {
                let before = before.map_or(&[][..], |before| &before.endpoints);
                self.names.endpoints(name, dns, before)?
            }
        };
        if let Some(before) = before
            && Arc::ptr_eq(&before.spec, spec)
            && Arc::ptr_eq(&before.endpoints, endpoints)
            && before.cluster.callers == callers
        {
            return Ok(Arc::clone(&before.cluster));
        }
        let cluster = Cluster {
            name: Arc::clone(&spec.name),
            version: spec.version.clone(),
            http: spec.http,
            tls: spec.tls.clone(),
            connect_timeout: spec.connect_timeout,
            limits: spec.limits.clone(),
            traffic: Arc::clone(&spec.traffic),
            endpoints: Arc::clone(endpoints),
            keys: KeyTable::None,
            callers,
        };
        let same = |before: &&LinkedCluster| {
            // The table of keys follows from the rest.
            let Cluster {
                name,
                version,
                http,
                tls,
                connect_timeout,
                limits,
                traffic,
                endpoints,
                keys: _,
                callers,
            } = &*before.cluster;
            (name, version, http, tls)
                == (&cluster.name, &cluster.version, &cluster.http, &cluster.tls)
                && (connect_timeout, limits) == (&cluster.connect_timeout, &cluster.limits)
                && (traffic, endpoints) == (&cluster.traffic, &cluster.endpoints)
                && *callers == cluster.callers
        };
        let cluster = if let Some(before) = before.filter(same) {
            Arc::clone(&before.cluster)
        } else {
            let keys = balance::key_table(&cluster.traffic.algorithm, &cluster.endpoints);
            Arc::new(Cluster { keys, ..cluster })
        };
        let linked = LinkedCluster {
            spec: Arc::clone(spec),
            endpoints: Arc::clone(endpoints),
            cluster: Arc::clone(&cluster),
        };
        self.linked.insert(Arc::clone(name), linked);
        Ok(cluster)
    }
}

fn named(type_url: &str, name: &str) -> String {
    format!("{} {name}", short_type(type_url))
}
