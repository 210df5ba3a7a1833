//! Where this sidecar is, and where the other instances of its service are: they call what it calls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Linker;
use crate::compile::cluster::ClusterSpec;
use crate::compile::discovery::EndpointSource;
use crate::snapshot::{Callers, Endpoint, Locality, LocalityRule};

/// The own service, as far as the control plane tells of it.
#[derive(Debug, Default)]
pub(super) struct OwnService {
    locality: Option<Locality>,
    /// `namespace/name`.
    service: String,
    /// Its clusters: those of its versions, or the one of its name.
    clusters: BTreeSet<Arc<str>>,
    callers: Option<Arc<Callers>>,
}

impl OwnService {
    /// Its name, `namespace/name`.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// A cluster comes in place of the one of its name.
    pub fn put(&mut self, cluster: &ClusterSpec) {
        let version = cluster.version.as_ref().map(|(service, _)| service.to_string());
        if version.as_deref().unwrap_or(&cluster.name) == self.service {
            self.clusters.insert(Arc::clone(&cluster.name));
        }
    }

    /// A cluster is gone.
    pub fn remove(&mut self, cluster: &str) {
        self.clusters.remove(cluster);
    }

    /// The callers of a cluster, where they matter to it.
    pub fn callers_of(&self, cluster: &ClusterSpec) -> Option<Arc<Callers>> {
        let matter = matches!(cluster.traffic.localities, LocalityRule::ZoneAware(_));
        self.callers.clone().filter(|_| matter)
    }
}

impl Linker {
    /// Tells where the sidecar is and which service it stands next to, before anything else.
    pub fn at(&mut self, locality: Locality, service: &str) {
        self.own.locality = (!locality.is_unknown()).then_some(locality);
        service.clone_into(&mut self.own.service);
    }

    /// Counts the instances of the own service again; the counts stay the same `Arc` where they do.
    pub(super) fn count_callers(&mut self) {
        let Some(own) = &self.own.locality else { return };
        let mut counts: BTreeMap<Locality, u32> = BTreeMap::new();
        for name in &self.own.clusters {
            for endpoint in self.endpoints_of(name) {
                if let Some(locality) = &endpoint.locality {
                    *counts.entry((**locality).clone()).or_default() += 1;
                }
            }
        }
        // Whoever is not among them cannot tell what its part of the calls is.
        if !counts.contains_key(own) {
            counts.clear();
        }
        if self.own.callers.as_ref().is_none_or(|callers| callers.counts != counts) {
            self.own.callers = Some(Arc::new(Callers { own: own.clone(), counts }));
        }
    }

    fn endpoints_of(&self, cluster: &str) -> &[Endpoint] {
        let source = self.clusters.get(cluster).map(|spec| &spec.source);
        match source {
            Some(EndpointSource::Static(endpoints)) => endpoints,
            Some(EndpointSource::Eds(name)) => {
                self.assignments.get(name).map_or(&[], |assignment| &assignment.endpoints)
            }
            Some(EndpointSource::Dns(_)) => self.names.known(cluster),
            None => &[],
        }
    }
}
