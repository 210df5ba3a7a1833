//! Asks for the addresses of hosts: a new host at once, every host again at each interval. The last
//! good answer stays while asking fails.
//!
//! A lookup cannot be called back: the system's resolver blocks a thread until it gives up. So a slow
//! host is not asked again while it is being asked, a late answer is still taken, and the places for
//! lookups bound the threads. Hosts that are new, hosts that have answered before and hosts that never
//! have each have their own places, so that none waits for the slow ones of another kind.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use segue_control_plane_core::compile::ResolvedEndpoints;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::dns::Resolver;

/// Most lookups that are begun at one time for hosts of one kind.
const MAX_LOOKUPS: usize = 32;
/// Most lookups of silent hosts, those included that began as lookups of new hosts.
const MAX_SILENT: usize = 64;
/// Most addresses of one name.
const MAX_ADDRESSES: usize = 1_000;

/// How discovery works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time between two lookups of a name. Default 30 s.
    pub dns_interval: Duration,
    /// Time after which a publication no longer waits for a new name. Default 2 s.
    pub dns_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { dns_interval: Duration::from_secs(30), dns_timeout: Duration::from_secs(2) }
    }
}

/// A host and its port.
pub(super) type Host = (String, u16);
/// Cluster name to host.
pub(super) type Names = OrdMap<Arc<str>, Host>;

/// What is to be followed.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Grows with each change of `names`.
    pub generation: u64,
    pub names: Names,
}

/// Where answers go.
pub(super) struct Told {
    pub endpoints: watch::Sender<Arc<ResolvedEndpoints>>,
    /// The last generation whose names have all been asked for.
    pub asked: watch::Sender<u64>,
}

/// Runs until nobody wants anything any more.
pub(super) async fn run(
    settings: Settings,
    resolver: Arc<dyn Resolver>,
    mut wanted: watch::Receiver<Wanted>,
    told: Told,
) {
    let mut ticks = interval(settings.dns_interval.max(Duration::from_millis(100)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asking = Asking::default();
    let mut lookups = JoinSet::new();
    loop {
        let patience = asking.pending.first().map(|(until, _)| *until);
        let patience = async {
            match patience {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = wanted.changed() => match changed {
                Ok(()) => asking.want(&wanted.borrow_and_update(), settings.dns_timeout),
                Err(_) => return,
            },
            _ = ticks.tick() => asking.ask_all(),
            Some(ended) = lookups.join_next() => if let Ok((host, lookup, answer)) = ended {
                asking.answer(&host, lookup, answer);
            },
            () = patience => asking.stop_waiting(Instant::now()),
        }
        while let Some((host, number)) = asking.next() {
            let lookup = resolver.lookup(&host.0, host.1);
            lookups.spawn(async move { (host, number, lookup.await) });
        }
        told.endpoints.send_if_modified(|endpoints| {
            let news = !endpoints.0.ptr_eq(&asking.endpoints);
            if news {
                *endpoints = Arc::new(ResolvedEndpoints(asking.endpoints.clone()));
            }
            news
        });
        if asking.pending.is_empty() {
            let done = asking.wanted.generation;
            told.asked.send_if_modified(|asked| std::mem::replace(asked, done) != done);
        }
    }
}

/// All questions and answers.
#[derive(Default)]
struct Asking {
    wanted: Wanted,
    hosts: BTreeMap<Host, Followed>,
    /// New hosts that are waited for, and until when.
    pending: BTreeSet<(Instant, Host)>,
    /// Hosts that wait for a place, in the order in which they came.
    waiting: BTreeMap<(Kind, u64), Host>,
    /// Lookups that have not ended, whoever still wants them.
    running: BTreeMap<u64, Kind>,
    /// Number of the last that waits.
    last: u64,
    endpoints: OrdMap<Arc<str>, Arc<[SocketAddr]>>,
}

/// Kinds of host, the one first whose lookups are begun first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Waited for.
    New,
    /// Has answered before.
    Known,
    /// Has had its time, and never answered.
    Silent,
}

/// One host.
#[derive(Default)]
struct Followed {
    clusters: BTreeSet<Arc<str>>,
    /// The last good answer.
    addresses: Option<Arc<[SocketAddr]>>,
    question: Option<Question>,
    /// Until when it is waited for.
    until: Option<Instant>,
}

/// A question that was asked and not answered yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    Waiting(Kind, u64),
    Running(u64),
}

impl Asking {
    /// Follows these names.
    fn want(&mut self, wanted: &Wanted, patience: Duration) {
        let before = std::mem::replace(&mut self.wanted, wanted.clone());
        for item in before.names.diff(&wanted.names) {
            let (old, new) = match item {
                DiffItem::Add(cluster, new) => (None, Some((cluster, new))),
                DiffItem::Update { old, new } => (Some(old), Some(new)),
                DiffItem::Remove(cluster, old) => (Some((cluster, old)), None),
            };
            if let Some((cluster, host)) = old {
                self.forget(cluster, host);
            }
            if let Some((cluster, host)) = new {
                self.add(cluster, host, patience);
            }
        }
    }

    fn forget(&mut self, cluster: &Arc<str>, host: &Host) {
        self.endpoints.remove(cluster);
        let Some(followed) = self.hosts.get_mut(host) else { return };
        followed.clusters.remove(cluster);
        if !followed.clusters.is_empty() {
            return;
        }
        if let Some(until) = followed.until {
            self.pending.remove(&(until, host.clone()));
        }
        match followed.question {
            Some(Question::Waiting(kind, number)) => drop(self.waiting.remove(&(kind, number))),
            Some(Question::Running(number)) => self.give_up_place(number),
            None => {}
        }
        self.hosts.remove(host);
    }

    fn add(&mut self, cluster: &Arc<str>, host: &Host, patience: Duration) {
        if let Some(followed) = self.hosts.get_mut(host) {
            followed.clusters.insert(Arc::clone(cluster));
            if let Some(addresses) = &followed.addresses {
                self.endpoints.insert(Arc::clone(cluster), Arc::clone(addresses));
            }
            return;
        }
        let until = Instant::now() + patience;
        let followed = Followed {
            clusters: [Arc::clone(cluster)].into(),
            until: Some(until),
            ..Followed::default()
        };
        self.hosts.insert(host.clone(), followed);
        self.pending.insert((until, host.clone()));
        self.wait(host, Kind::New);
    }

    /// Lets a host wait for a place.
    fn wait(&mut self, host: &Host, kind: Kind) {
        let Some(followed) = self.hosts.get_mut(host) else { return };
        self.last += 1;
        followed.question = Some(Question::Waiting(kind, self.last));
        self.waiting.insert((kind, self.last), host.clone());
    }

    /// Asks again for every host that is not being asked.
    fn ask_all(&mut self) {
        let idle = self.hosts.iter().filter(|(_, followed)| followed.question.is_none());
        let kind = |followed: &Followed| match followed.addresses {
            Some(_) => Kind::Known,
            None => Kind::Silent,
        };
        let idle: Vec<(Host, Kind)> =
            idle.map(|(host, followed)| (host.clone(), kind(followed))).collect();
        for (host, kind) in idle {
            self.wait(&host, kind);
        }
    }

    /// The next host to look up, where there is a place for it, and the number of the lookup.
    fn next(&mut self) -> Option<(Host, u64)> {
        let kinds = [Kind::New, Kind::Known, Kind::Silent].into_iter();
        let (kind, number) =
            kinds.filter(|kind| self.count(*kind) < MAX_LOOKUPS).find_map(|kind| {
                let mut waiting = self.waiting.range((kind, 0)..=(kind, u64::MAX));
                waiting.next().map(|(place, _)| *place)
            })?;
        let host = self.waiting.remove(&(kind, number))?;
        self.hosts.get_mut(&host)?.question = Some(Question::Running(number));
        self.running.insert(number, kind);
        Some((host, number))
    }

    /// Lookups that run for a kind of host.
    fn count(&self, kind: Kind) -> usize {
        self.running.values().filter(|running| **running == kind).count()
    }

    fn answer(&mut self, host: &Host, number: u64, answer: io::Result<Vec<SocketAddr>>) {
        self.running.remove(&number);
        let Some(followed) = self.hosts.get_mut(host) else { return };
        // The host may have been forgotten in the meantime, and asked anew.
        if followed.question != Some(Question::Running(number)) {
            return;
        }
        followed.question = None;
        if let Some(until) = followed.until.take() {
            self.pending.remove(&(until, host.clone()));
        }
        let mut addresses = match answer {
            Ok(addresses) if !addresses.is_empty() => addresses,
            Ok(_) => return not_found(host, &"no addresses"),
            Err(error) => return not_found(host, &error),
        };
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);
        if followed.addresses.as_deref() == Some(&addresses) {
            return;
        }
        let addresses: Arc<[SocketAddr]> = addresses.into();
        followed.addresses = Some(Arc::clone(&addresses));
        for cluster in &followed.clusters {
            self.endpoints.insert(Arc::clone(cluster), Arc::clone(&addresses));
        }
    }

    /// Waits no longer for new hosts whose time is over. They are still asked, as silent ones.
    fn stop_waiting(&mut self, now: Instant) {
        while let Some((until, host)) = self.pending.first().cloned() {
            if until > now {
                return;
            }
            not_found(&host, &"no answer in time");
            self.pending.remove(&(until, host.clone()));
            let Some(followed) = self.hosts.get_mut(&host) else { continue };
            followed.until = None;
            match followed.question {
                Some(Question::Waiting(kind, number)) => {
                    self.waiting.remove(&(kind, number));
                    self.wait(&host, Kind::Silent);
                }
                Some(Question::Running(number)) => self.give_up_place(number),
                None => {}
            }
        }
    }

    /// Lets a lookup that nobody waits for run as one of a silent host, while there is room.
    fn give_up_place(&mut self, number: u64) {
        if self.count(Kind::Silent) < MAX_SILENT {
            self.running.insert(number, Kind::Silent);
        }
    }
}

fn not_found(host: &Host, reason: &dyn std::fmt::Display) {
    let (host, port) = host;
    tracing::warn!(host, port, %reason, "DNS lookup failed; the last answer stays");
}
