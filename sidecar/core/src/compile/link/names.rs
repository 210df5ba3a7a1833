//! What is known of the host names in clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::Linker;
use crate::compile::cluster::ClusterSpec;
use crate::compile::discovery::EndpointSource;
use crate::dns::{DnsSpec, Query, Refresh};
use crate::snapshot::Endpoint;

/// Answers, and the endpoints that they make.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Clusters that name hosts.
    clusters: BTreeSet<Arc<str>>,
    answers: BTreeMap<Query, Arc<[IpAddr]>>,
    /// Endpoints by cluster, until a name of them is answered differently.
    endpoints: BTreeMap<Arc<str>, Arc<[Endpoint]>>,
}

impl Names {
    /// A cluster comes in place of the one of its name.
    pub fn put(&mut self, cluster: &ClusterSpec) {
        self.remove(&cluster.name);
        if matches!(cluster.source, EndpointSource::Dns(_)) {
            self.clusters.insert(Arc::clone(&cluster.name));
        }
    }

    /// A cluster is gone.
    pub fn remove(&mut self, cluster: &str) {
        self.clusters.remove(cluster);
        self.endpoints.remove(cluster);
    }

    /// The endpoints of a cluster, as far as they are known.
    pub fn known(&self, cluster: &str) -> &[Endpoint] {
        self.endpoints.get(cluster).map_or(&[], |endpoints| endpoints)
    }

    /// The endpoints of a cluster, the same ones for as long as nothing changes, or the name that is
    /// waited for. `before` are those that it was last linked with.
    pub fn endpoints(
        &mut self,
        cluster: &Arc<str>,
        dns: &DnsSpec,
        before: &[Endpoint],
    ) -> Result<&Arc<[Endpoint]>, String> {
        if !self.endpoints.contains_key(cluster) {
            let answers = &self.answers;
            let known = dns.known(|query| answers.get(query).map(|it| &**it), before);
            let known = known.map_err(|query| format!("address of {}", query.host))?;
            self.endpoints.insert(Arc::clone(cluster), known.into());
        }
        self.endpoints.get(cluster).ok_or_else(|| cluster.to_string())
    }
}

impl Linker {
    /// What is to be asked of DNS, and how often.
    pub fn wanted_names(&self) -> BTreeMap<Query, Refresh> {
        let mut wanted: BTreeMap<Query, Refresh> = BTreeMap::new();
        for (_, dns) in self.dns_clusters() {
            for query in dns.queries() {
                let refresh = wanted.entry(query.clone()).or_insert(dns.refresh);
                *refresh = refresh.or_sooner(dns.refresh);
            }
        }
        wanted
    }

    /// Takes what a name stands for now; whether that is news. A name that could not be looked up
    /// and of which nothing is known stands for no address at all, so that nobody waits for it.
    pub fn resolved(&mut self, query: &Query, addresses: Option<Arc<[IpAddr]>>) -> bool {
        let before = self.names.answers.get(query);
        let Some(addresses) = addresses.or_else(|| before.is_none().then(Arc::default)) else {
            return false;
        };
        if before.is_some_and(|before| *before == addresses) {
            return false;
        }
        let of_it = |(name, dns): (&Arc<str>, &DnsSpec)| {
            dns.queries().any(|it| it == query).then(|| Arc::clone(name))
        };
        let stale: Vec<Arc<str>> = self.dns_clusters().filter_map(of_it).collect();
        for cluster in stale {
            self.names.endpoints.remove(&cluster);
        }
        self.names.answers.insert(query.clone(), addresses);
        true
    }

    /// Forgets the answers that no cluster asks for any more.
    pub fn forget_names_but(&mut self, wanted: &BTreeMap<Query, Refresh>) {
        self.names.answers.retain(|query, _| wanted.contains_key(query));
    }

    fn dns_clusters(&self) -> impl Iterator<Item = (&Arc<str>, &DnsSpec)> {
        self.names.clusters.iter().filter_map(|name| match &self.clusters.get(name)?.source {
            EndpointSource::Dns(dns) => Some((name, dns)),
            EndpointSource::Eds(_) | EndpointSource::Static(_) => None,
        })
    }
}
