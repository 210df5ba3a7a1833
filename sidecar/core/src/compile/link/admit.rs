//! What the linker takes: each resource in place of the one of its name, unless a virtual host would
//! take the domain of another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use segue_shared::xds_names::type_urls;

use super::host::{Configuration, Host};
use super::tcp::TcpService;
use super::{KeptListener, KeptSource, Linker, named};
use crate::compile::listener::RouteSource;
use crate::compile::resource::Compiled;
use crate::compile::route::HostResource;
use crate::reject::{Fault, Reject};
use crate::snapshot::Domain;

/// A virtual host that came as a resource of its own.
#[derive(Debug)]
pub(super) struct KeptHost {
    pub configuration: Arc<str>,
    pub host: Arc<Host>,
}

impl Linker {
    /// Takes a resource in place of the one of its type and name. Marks are not kept here, nor are
    /// authorities.
    pub fn put(&mut self, resource: Compiled) -> Result<(), Reject> {
        match resource {
            Compiled::Listener(it) => {
                let routes = it.routes.map(|routes| match routes {
                    RouteSource::Rds(name) => KeptSource::Rds(name),
                    RouteSource::Inline(routes) => {
                        KeptSource::Inline(Arc::new(Configuration::new(*routes, &mut self.places)))
                    }
                });
                let listener = KeptListener {
                    direction: it.direction,
                    routes,
                    escaped_slashes: it.escaped_slashes,
                    tcp: TcpService::of_listener(&it.name, it.tcp, &mut self.places),
                };
                self.listeners.insert(it.name, listener);
                self.newest = None;
            }
            Compiled::Routes(it) => {
                let routes = Configuration::new(*it, &mut self.places);
                self.put_routes(Arc::new(routes))?;
            }
            Compiled::Host(it) => {
                if let Some(reject) = self.put_hosts(vec![*it]).pop() {
                    return Err(reject);
                }
            }
            Compiled::Cluster(it) => {
                self.names.put(&it);
                self.own.put(&it);
                self.clusters.insert(Arc::clone(&it.name), it);
            }
            Compiled::Assignment(it) => drop(self.assignments.insert(Arc::clone(&it.name), it)),
            Compiled::Inbound(it) => self.inbound = Some(it.mtls),
            Compiled::Mark(_) | Compiled::Authorities(_) => {}
        }
        Ok(())
    }

    /// Takes the virtual hosts of one response. They may pass domains on among each other; one that
    /// would have the domain of another is refused, and its last good version stays. Of two new ones
    /// the first by name has the domain.
    pub fn put_hosts(&mut self, resources: Vec<HostResource>) -> Vec<Reject> {
        let resources: BTreeMap<Arc<str>, HostResource> =
            resources.into_iter().map(|it| (Arc::clone(&it.name), it)).collect();
        let mut refused: BTreeMap<Arc<str>, Reject> = BTreeMap::new();
        while !self.claim_all(&resources, &mut refused) {}
        for (name, resource) in resources {
            if refused.contains_key(&name) {
                continue;
            }
            let HostResource { configuration, host, .. } = resource;
            let host = Arc::new(Host::new(Arc::clone(&name), host, &mut self.places));
            self.hosts.insert(name, KeptHost { configuration, host });
            self.hosts_told = true;
            self.newest = None;
        }
        refused.into_values().collect()
    }

    /// Gives the resources their domains in place of those that they have. `false` where one had to
    /// be refused and keeps those that it has: then all is as before, to be tried without it.
    fn claim_all(
        &mut self,
        resources: &BTreeMap<Arc<str>, HostResource>,
        refused: &mut BTreeMap<Arc<str>, Reject>,
    ) -> bool {
        let candidates: Vec<&HostResource> =
            resources.values().filter(|it| !refused.contains_key(&it.name)).collect();
        for it in &candidates {
            self.release_host(&it.name);
        }
        let (mut again, mut claimed) = (false, BTreeSet::new());
        for it in &candidates {
            let (owner, domains) = (host_owner(&it.name), &it.host.domains);
            if let Some((i, other)) = self.domains.taken(&it.configuration, domains, &owner) {
                let fault = taken(&domains[i], &other).under(&format!("domains[{i}]"));
                let reject = fault.reject(type_urls::VIRTUAL_HOST, &it.name);
                refused.insert(Arc::clone(&it.name), reject);
                again |= self.hosts.contains_key(&it.name);
            } else {
                self.domains.claim(&it.configuration, domains, &owner);
                claimed.insert(&it.name);
            }
        }
        if !again {
            return true;
        }
        for it in &candidates {
            if claimed.contains(&it.name) {
                let owner = host_owner(&it.name);
                self.domains.release(&it.configuration, &it.host.domains, &owner);
            }
        }
        for it in &candidates {
            if let Some(kept) = self.hosts.get(&it.name) {
                let owner = host_owner(&it.name);
                self.domains.claim(&kept.configuration, &kept.host.domains, &owner);
            }
        }
        false
    }

    fn put_routes(&mut self, routes: Arc<Configuration>) -> Result<(), Reject> {
        let name = Arc::clone(&routes.name);
        let owner = routes_owner(&name);
        let before = self.release_routes(&name);
        if routes.vhds {
            for (i, host) in routes.hosts.iter().enumerate() {
                if let Some((j, other)) = self.domains.taken(&name, &host.domains, &owner) {
                    if let Some(before) = before {
                        self.claim_routes(&before);
                    }
                    let fault = taken(&host.domains[j], &other);
                    let fault = fault.under(&format!("virtual_hosts[{i}].domains[{j}]"));
                    return Err(fault.reject(type_urls::ROUTE, &name));
                }
            }
            self.claim_routes(&routes);
        }
        self.routes.insert(name, routes);
        self.newest = None;
        Ok(())
    }

    /// Forgets a resource. Snapshots that were linked with it keep it.
    pub fn remove(&mut self, type_url: &str, name: &str) {
        match type_url {
            type_urls::LISTENER => drop(self.listeners.remove(name)),
            type_urls::ROUTE => {
                self.release_routes(name);
                self.routes.remove(name);
            }
            type_urls::VIRTUAL_HOST => {
                self.release_host(name);
                self.hosts.remove(name);
            }
            type_urls::CLUSTER => {
                self.names.remove(name);
                self.own.remove(name);
                self.clusters.remove(name);
            }
            type_urls::ENDPOINT => drop(self.assignments.remove(name)),
            type_urls::INBOUND => self.inbound = None,
            _ => {}
        }
        if matches!(type_url, type_urls::LISTENER | type_urls::ROUTE | type_urls::VIRTUAL_HOST) {
            self.newest = None;
        }
    }

    fn release_host(&mut self, name: &str) {
        if let Some(kept) = self.hosts.get(name) {
            self.domains.release(&kept.configuration, &kept.host.domains, &host_owner(name));
        }
    }

    /// The configuration whose domains are free now.
    fn release_routes(&mut self, name: &str) -> Option<Arc<Configuration>> {
        let before = self.routes.get(name).filter(|before| before.vhds).map(Arc::clone)?;
        for host in &before.hosts {
            self.domains.release(name, &host.domains, &routes_owner(name));
        }
        Some(before)
    }

    fn claim_routes(&mut self, routes: &Configuration) {
        for host in &routes.hosts {
            self.domains.claim(&routes.name, &host.domains, &routes_owner(&routes.name));
        }
    }
}

fn host_owner(name: &str) -> Arc<str> {
    named(type_urls::VIRTUAL_HOST, name).into()
}

fn routes_owner(name: &str) -> Arc<str> {
    named(type_urls::ROUTE, name).into()
}

fn taken(domain: &Domain, other: &str) -> Fault {
    Fault::at("", format!("\"{domain}\" belongs to {other} already"))
}
