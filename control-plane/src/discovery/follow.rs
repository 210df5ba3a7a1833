//! Which hosts the configuration names, and what is known of their addresses.

use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use segue_control_plane_core::compile::ResolvedEndpoints;
use segue_control_plane_core::config::mesh::{MeshConfig, Service};
use segue_shared::ids::ServiceName;
use segue_shared::xds_names;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ask::{self, Names, Settings, Told, Wanted};
use super::dns::{Resolver, SystemResolver};

/// Most names that are followed; further ones have no addresses, which is logged.
const MAX_NAMES: usize = 10_000;
/// Most time that a publication waits for names it is the first to hold.
const PATIENCE: Duration = Duration::from_secs(5);

/// The follower of names. Its task ends when this is dropped.
#[derive(Debug)]
pub struct Discovery {
    services: OrdMap<ServiceName, Arc<Service>>,
    /// Names beyond the limit were left out.
    is_full: bool,
    wanted: watch::Sender<Wanted>,
    endpoints: watch::Receiver<Arc<ResolvedEndpoints>>,
    asked: watch::Receiver<u64>,
    _task: JoinSet<()>,
}

impl Discovery {
    /// Asks the system's resolver. Must be called in a runtime.
    pub fn new(settings: Settings) -> Self {
        Self::with_resolver(settings, Arc::new(SystemResolver))
    }

    /// Asks another resolver.
    pub fn with_resolver(settings: Settings, resolver: Arc<dyn Resolver>) -> Self {
        let (wanted, names) = watch::channel(Wanted::default());
        let (endpoints, found) = watch::channel(Arc::default());
        let (asked, done) = watch::channel(0);
        let mut task = JoinSet::new();
        task.spawn(ask::run(settings, resolver, names, Told { endpoints, asked }));
        Self {
            services: OrdMap::new(),
            is_full: false,
            wanted,
            endpoints: found,
            asked: done,
            _task: task,
        }
    }

    /// Follows the hosts of this configuration, and no others. Costs what changed.
    pub fn follow(&mut self, config: &MeshConfig) {
        // Where names were left out, there may be room for them now.
        let from_scratch = self.is_full;
        let (none, mut names) = (OrdMap::new(), self.wanted.borrow().names.clone());
        if from_scratch {
            names = Names::new();
        }
        let before = if from_scratch { &none } else { &self.services };
        self.is_full = false;
        for item in before.diff(&config.services) {
            let (old, new) = match item {
                DiffItem::Add(_, new) => (None, Some(new)),
                DiffItem::Update { old: (_, old), new: (_, new) } => (Some(old), Some(new)),
                DiffItem::Remove(_, old) => (Some(old), None),
            };
            for (cluster, _) in old.into_iter().flat_map(|service| hosts(service)) {
                names.remove(&cluster);
            }
            for (cluster, host) in new.into_iter().flat_map(|service| hosts(service)) {
                if names.len() < MAX_NAMES {
                    names.insert(cluster, host);
                } else {
                    tracing::warn!(%cluster, "too many DNS names: no addresses for this one");
                    self.is_full = true;
                }
            }
        }
        self.services = config.services.clone();
        self.wanted.send_if_modified(|wanted| {
            let news = wanted.names != names;
            if news {
                wanted.generation += 1;
                wanted.names = names;
            }
            news
        });
    }

    /// What is known now.
    pub fn endpoints(&mut self) -> Arc<ResolvedEndpoints> {
        Arc::clone(&self.endpoints.borrow_and_update())
    }

    /// Waits until every followed name has been asked for, with or without an answer in its time; no
    /// longer than 5 s.
    pub async fn asked(&mut self) {
        let newest = self.wanted.borrow().generation;
        // Where the time is over, what is known must do.
        let _ = timeout(PATIENCE, self.asked.wait_for(|done| *done == newest)).await;
    }

    /// Waits until addresses changed since the last [`Discovery::endpoints`].
    pub async fn changed(&mut self) {
        if self.endpoints.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Clusters of a service whose versions name a host.
fn hosts(service: &Service) -> impl Iterator<Item = (Arc<str>, ask::Host)> {
    service.versions.iter().filter_map(|version| {
        let cluster = xds_names::cluster(&service.name, version.label.as_str());
        Some((cluster.into(), version.dns.clone()?))
    })
}

#[cfg(test)]
mod tests;
