//! Keeps the addresses of every version that names a host: asks again at each interval, and keeps
//! the last good answer while asking fails.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use segue_control_plane_core::compile::ResolvedEndpoints;
use segue_control_plane_core::config::mesh::MeshConfig;
use segue_shared::xds_names;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::dns::{Resolver, SystemResolver};

/// Most names that are followed; further ones have no addresses, which is logged.
const MAX_NAMES: usize = 10_000;
/// Most lookups at one time.
const MAX_LOOKUPS: usize = 32;
/// Most addresses of one name.
const MAX_ADDRESSES: usize = 1_000;
/// Most time that a publication waits for names it is the first to hold.
const PATIENCE: Duration = Duration::from_secs(5);

/// How discovery works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time between two lookups of a name. Default 30 s.
    pub dns_interval: Duration,
    /// Time for one lookup. Default 2 s.
    pub dns_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { dns_interval: Duration::from_secs(30), dns_timeout: Duration::from_secs(2) }
    }
}

/// Cluster name to host and port.
type Names = BTreeMap<String, (String, u16)>;

/// The follower of names. Its task ends when this is dropped.
#[derive(Debug)]
pub struct Discovery {
    names: watch::Sender<Arc<Names>>,
    answers: watch::Receiver<Answers>,
    _task: JoinSet<()>,
}

/// What is known.
#[derive(Clone, Debug, Default)]
struct Answers {
    /// The names that have each been asked for at least once.
    asked: Arc<Names>,
    endpoints: Arc<ResolvedEndpoints>,
}

impl Discovery {
    /// Asks the system's resolver. Must be called in a runtime.
    pub fn new(settings: Settings) -> Self {
        Self::with_resolver(settings, Arc::new(SystemResolver))
    }

    /// Asks another resolver.
    pub fn with_resolver(settings: Settings, resolver: Arc<dyn Resolver>) -> Self {
        let (names, wanted) = watch::channel(Arc::default());
        let (told, answers) = watch::channel(Answers::default());
        let mut task = JoinSet::new();
        task.spawn(follow(settings, resolver, wanted, told));
        Self { names, answers, _task: task }
    }

    /// Follows the hosts of this configuration, and no others.
    pub fn follow(&self, config: &MeshConfig) {
        let wanted = names(config);
        self.names.send_if_modified(|names| {
            let news = **names != wanted;
            if news {
                *names = Arc::new(wanted);
            }
            news
        });
    }

    /// What is known now.
    pub fn endpoints(&mut self) -> Arc<ResolvedEndpoints> {
        Arc::clone(&self.answers.borrow_and_update().endpoints)
    }

    /// Waits until every followed name has been asked for, with or without an answer; no longer
    /// than 5 s.
    pub async fn asked(&mut self) {
        let names = Arc::clone(&self.names.borrow());
        // Where the time is over, what is known must do.
        let _ = timeout(PATIENCE, self.answers.wait_for(|answers| answers.asked == names)).await;
    }

    /// Waits until addresses changed since the last [`Discovery::endpoints`].
    pub async fn changed(&mut self) {
        if self.answers.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn names(config: &MeshConfig) -> Names {
    let mut names = Names::new();
    for service in config.services.values() {
        for version in &service.versions {
            let Some((host, port)) = &version.dns else { continue };
            let cluster = xds_names::cluster(&service.name, version.label.as_str());
            if names.len() == MAX_NAMES {
                tracing::warn!(cluster, "too many DNS names: no addresses for this one");
                continue;
            }
            names.insert(cluster, (host.clone(), *port));
        }
    }
    names
}

async fn follow(
    settings: Settings,
    resolver: Arc<dyn Resolver>,
    mut wanted: watch::Receiver<Arc<Names>>,
    told: watch::Sender<Answers>,
) {
    let mut ticks = interval(settings.dns_interval.max(Duration::from_millis(100)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut followed: Arc<Names> = Arc::default();
    loop {
        let all = tokio::select! {
            _ = ticks.tick() => true,
            changed = wanted.changed() => match changed {
                Ok(()) => false,
                Err(_) => return,
            },
        };
        let names = Arc::clone(&wanted.borrow_and_update());
        let known = Arc::clone(&told.borrow().endpoints);
        let asked: Names = names
            .iter()
            .filter(|&(cluster, host)| all || followed.get(cluster) != Some(host))
            .map(|(cluster, host)| (cluster.clone(), host.clone()))
            .collect();
        let mut answers = lookup_all(&asked, &resolver, settings.dns_timeout).await;
        for (cluster, host) in names.iter() {
            let kept = known.0.get(cluster).filter(|_| followed.get(cluster) == Some(host));
            if let (Some(last_good), false) = (kept, answers.contains_key(cluster)) {
                answers.insert(cluster.clone(), last_good.clone());
            }
        }
        followed = names;
        told.send_if_modified(|current| {
            let news = current.endpoints.0 != answers || current.asked != followed;
            if news {
                current.asked = Arc::clone(&followed);
                current.endpoints = Arc::new(ResolvedEndpoints(answers));
            }
            news
        });
    }
}

/// Addresses of the names that could be resolved.
async fn lookup_all(
    names: &Names,
    resolver: &Arc<dyn Resolver>,
    limit: Duration,
) -> BTreeMap<String, Vec<SocketAddr>> {
    let mut found = BTreeMap::new();
    let mut running = JoinSet::new();
    for (cluster, (host, port)) in names {
        if running.len() >= MAX_LOOKUPS {
            note(&mut found, running.join_next().await);
        }
        let (cluster, host) = (cluster.clone(), host.clone());
        let lookup = resolver.lookup(&host, *port);
        running.spawn(async move {
            let answer = match timeout(limit, lookup).await {
                Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
                Ok(Ok(_)) => Err("no addresses".to_owned()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {limit:?}")),
            };
            (cluster, host, answer)
        });
    }
    while !running.is_empty() {
        note(&mut found, running.join_next().await);
    }
    found
}

type Answer = (String, String, Result<Vec<SocketAddr>, String>);

fn note(
    found: &mut BTreeMap<String, Vec<SocketAddr>>,
    answer: Option<Result<Answer, tokio::task::JoinError>>,
) {
    let Some(Ok((cluster, host, answer))) = answer else { return };
    match answer {
        Ok(mut addresses) => {
            addresses.sort_unstable();
            addresses.dedup();
            addresses.truncate(MAX_ADDRESSES);
            found.insert(cluster, addresses);
        }
        Err(reason) => {
            tracing::warn!(host, cluster, reason, "DNS lookup failed; the last answer stays");
        }
    }
}

#[cfg(test)]
mod tests;
