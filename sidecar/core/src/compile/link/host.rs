//! Virtual hosts as the linker keeps them, and who has which domain.

use std::collections::HashMap;
use std::sync::Arc;

use super::place::{Place, Places};
use super::tcp::TcpService;
use crate::compile::route::{HostSpec, RouteConfig};
use crate::snapshot::{ClusterIndex, Domain, RouteAction, RouteTable, TcpTable, VirtualHost};

/// A virtual host whose routes lead to places. An unchanged one is the same `Arc` in every table.
#[derive(Debug)]
pub(super) struct Host {
    /// `<route configuration>/<virtual host>`, wherever it came from.
    pub key: Arc<str>,
    pub domains: Vec<Domain>,
    pub routes: Arc<VirtualHost>,
    /// The clusters that its routes name.
    pub places: Vec<Arc<Place>>,
}

/// A route configuration.
#[derive(Debug)]
pub(super) struct Configuration {
    pub name: Arc<str>,
    pub ignore_port: bool,
    /// Whether more virtual hosts come as resources of their own.
    pub vhds: bool,
    pub hosts: Vec<Arc<Host>>,
}

/// Routes that make a whole.
#[derive(Debug)]
pub(super) struct Routes {
    pub table: Arc<RouteTable>,
    pub hosts: Vec<Arc<Host>>,
    pub tcp_table: Arc<TcpTable>,
    pub tcp: Vec<Arc<TcpService>>,
    /// Each place that a route leads to, once, by index.
    pub places: Vec<Arc<Place>>,
}

impl Host {
    pub fn new(key: Arc<str>, spec: HostSpec, places: &mut Places) -> Self {
        let HostSpec { name, domains, mut routes, clusters } = spec;
        let held: Vec<Arc<Place>> = clusters.iter().map(|name| places.hold(name)).collect();
        for route in &mut routes {
            if let RouteAction::Forward(forward) = &mut route.action {
                let of_split = forward.split.ranges.iter_mut().map(|(_, index)| index);
                let of_mirrors = forward.mirrors.iter_mut().map(|mirror| &mut mirror.cluster);
                for index in of_split.chain(of_mirrors) {
                    let place = held.get(index.0 as usize);
                    *index = place.map_or(ClusterIndex::NONE, |place| place.index);
                }
            }
        }
        let routes = routes.into_iter().map(Arc::new).collect();
        let routes = Arc::new(VirtualHost::new(&*name, routes));
        Self { key, domains, routes, places: held }
    }
}

impl Configuration {
    pub fn new(config: RouteConfig, places: &mut Places) -> Self {
        let RouteConfig { name, ignore_port, vhds, hosts } = config;
        let hosts = hosts.into_iter().map(|spec| {
            let key = format!("{name}/{}", spec.name).into();
            Arc::new(Host::new(key, spec, places))
        });
        Self { hosts: hosts.collect(), name, ignore_port, vhds }
    }
}

impl Routes {
    /// The table of these hosts. Where two have one domain, the first has it.
    pub fn new(hosts: Vec<Arc<Host>>, ignore_port: bool, tcp: Vec<Arc<TcpService>>) -> Self {
        let mut table = RouteTable { ignore_port, ..RouteTable::default() };
        let mut places = Vec::new();
        for host in &hosts {
            for domain in &host.domains {
                table.insert(domain, Arc::clone(&host.routes));
            }
            places.extend(host.places.iter().map(Arc::clone));
        }
        places.extend(tcp.iter().flat_map(|service| service.places.iter().map(Arc::clone)));
        let tcp_table = TcpTable::new(tcp.iter().map(|service| Arc::clone(&service.route)));
        places.sort_unstable_by_key(|place| place.index);
        places.dedup_by_key(|place| place.index);
        Self { table: Arc::new(table), hosts, tcp_table: Arc::new(tcp_table), tcp, places }
    }
}

/// Who has which domain of the route configurations whose virtual hosts come apart.
#[derive(Debug, Default)]
pub(super) struct Domains {
    owners: HashMap<Arc<str>, HashMap<Domain, Arc<str>>>,
}

impl Domains {
    /// The first of the domains that somebody else has: its place in the list, and who.
    pub fn taken(
        &self,
        configuration: &str,
        domains: &[Domain],
        owner: &str,
    ) -> Option<(usize, Arc<str>)> {
        let owners = self.owners.get(configuration)?;
        domains.iter().enumerate().find_map(|(i, domain)| {
            let other = owners.get(domain).filter(|other| ***other != *owner)?;
            Some((i, Arc::clone(other)))
        })
    }

    /// Gives domains that nobody else has to an owner.
    pub fn claim(&mut self, configuration: &Arc<str>, domains: &[Domain], owner: &Arc<str>) {
        let owners = self.owners.entry(Arc::clone(configuration)).or_default();
        for domain in domains {
            owners.insert(domain.clone(), Arc::clone(owner));
        }
    }

    /// Takes domains from their owner.
    pub fn release(&mut self, configuration: &str, domains: &[Domain], owner: &str) {
        let Some(owners) = self.owners.get_mut(configuration) else { return };
        for domain in domains {
            if owners.get(domain).is_some_and(|other| **other == *owner) {
                owners.remove(domain);
            }
        }
        if owners.is_empty() {
            self.owners.remove(configuration);
        }
    }
}
