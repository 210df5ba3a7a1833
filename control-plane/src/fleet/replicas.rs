//! The whole fleet: the nodes of this control plane, and those of the others on its store.
//!
//! Each control plane tells the others a summary of its own nodes and hears theirs. Where nodes may
//! be on their way from one to another, or back after a start, what is known is not the whole fleet
//! for some seconds, and nobody is told that all of it runs on a revision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use segue_shared::ids::Revision;
use tokio::time::Instant;

use super::Fleet;
use super::progress::{Group, MOST_MISSING, MOST_REFUSED, MOST_STANDING_REFUSED};
use super::progress::{Progress, Standings};
use super::record::Refused;
use super::summary::Summary;
use super::unsettled::{Unsettled, Why};

/// Most other control planes that are listened to.
pub const MOST_REPLICAS: usize = 32;
/// Time for the nodes of a control plane that is gone to come back to another one. A process that
/// dies cuts their connections at once, and they are back before its lease ends; those of a machine
/// without power notice only later, by their keepalive.
const RETURN_MOST: Duration = Duration::from_secs(5);
/// Time for a first node to come back to a control plane that has just started: the pauses of
/// nodes between attempts reach it where it was away for some twenty seconds.
const FIRST_RETURN: Duration = Duration::from_secs(10);
/// Time for the others, once one is back.
const OTHERS_RETURN: Duration = Duration::from_secs(3);

/// Names a control plane while it runs; drawn at random.
pub type ReplicaId = u128;

/// What is known of the others.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    /// Whether there may be others and nothing is heard of them.
    deaf: bool,
    others: BTreeMap<ReplicaId, Arc<Summary>>,
    started: Option<Instant>,
    gone: Option<Gone>,
}

/// Nodes that are expected back.
#[derive(Clone, Copy, Debug)]
struct Gone {
    /// How many nodes there were with them.
    nodes: usize,
    until: Instant,
}

impl Replicas {
    fn write(&mut self, id: ReplicaId, summary: Summary) {
        if self.others.len() < MOST_REPLICAS || self.others.contains_key(&id) {
            self.others.insert(id, Arc::new(summary));
        }
    }

    /// One is gone; `here` are the nodes of this control plane.
    fn remove(&mut self, id: ReplicaId, here: usize, now: Instant) {
        let before = here + self.nodes();
        let Some(gone) = self.others.remove(&id) else { return };
        if gone.nodes() > 0 {
            let expected = self.gone.filter(|gone| now < gone.until);
            let nodes = expected.map_or(before, |gone| gone.nodes.max(before));
            self.gone = Some(Gone { nodes, until: now + RETURN_MOST });
        }
    }

    fn nodes(&self) -> usize {
        self.others.values().map(|other| other.nodes()).sum()
    }

    /// `nodes` is how many there are of all.
    fn unsettled(&self, nodes: usize, now: Instant) -> Option<Unsettled> {
        if self.deaf {
            return Some(Unsettled { why: Why::Deaf, until: None });
        }
        let started = self.started.map(|started| {
            (Why::Started, started + if nodes == 0 { FIRST_RETURN } else { OTHERS_RETURN })
        });
        let gone = self.gone.filter(|gone| nodes < gone.nodes);
        let gone = gone.map(|gone| (Why::Gone, gone.until));
        let latest = [started, gone].into_iter().flatten().max_by_key(|(_, until)| *until);
        let (why, until) = latest.filter(|(_, until)| now < *until)?;
        Some(Unsettled { why, until: Some(until) })
    }
}

/// What is heard of other control planes.
impl Fleet {
    /// Nodes may be on their way back from before the start.
    pub fn may_come_back(&self) {
        self.replicas().started = Some(Instant::now());
    }

    /// There may be others, and nothing is heard of them now.
    pub fn hears_nothing(&self) {
        self.replicas().deaf = true;
        self.tell();
    }

    /// All others that there are; one that was there before and is not any more is gone.
    pub fn hears(&self, all: Vec<(ReplicaId, Summary)>) {
        let (here, mut replicas) = (self.own_nodes(), self.replicas());
        let gone = |id: &ReplicaId| !all.iter().any(|(other, _)| other == id);
        let gone: Vec<ReplicaId> = replicas.others.keys().copied().filter(gone).collect();
        for id in gone {
            replicas.remove(id, here, Instant::now());
        }
        for (id, summary) in all {
            replicas.write(id, summary);
        }
        replicas.deaf = false;
        drop(replicas);
        self.tell();
    }

    /// One of the others tells where its nodes stand.
    pub fn heard(&self, id: ReplicaId, summary: Summary) {
        self.replicas().write(id, summary);
        self.tell();
    }

    /// One of the others is gone.
    pub fn lost(&self, id: ReplicaId) {
        let here = self.own_nodes();
        self.replicas().remove(id, here, Instant::now());
        self.tell();
    }

    /// What the others are told, under the name by which people find this control plane.
    pub fn summary(&self, name: &str) -> Summary {
        self.registry().summary(name)
    }

    /// What the others told last.
    pub fn others(&self) -> Vec<Arc<Summary>> {
        self.replicas().others.values().map(Arc::clone).collect()
    }

    fn own_nodes(&self) -> usize {
        let registry = self.registry();
        let index = &registry.index;
        index.activated.values().chain(index.clients.values()).map(BTreeSet::len).sum()
    }

    fn replicas(&self) -> MutexGuard<'_, Replicas> {
        self.shared.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of all together.
impl Fleet {
    pub(super) fn progress_of_all(&self, revision: Revision) -> Progress {
        // Both are held, so that nodes that go and come back in between are not overlooked.
        let (registry, replicas) = (self.registry(), self.replicas());
        let mut all = registry.progress(revision);
        for other in replicas.others.values() {
            let other = other.progress(revision);
            all.total += other.total;
            all.clients += other.clients;
            all.accepted += other.accepted;
            all.activated += other.activated;
            all.missing.extend(other.missing);
            add_refused(&mut all.refused, other.refused);
        }
        all.missing.truncate(MOST_MISSING);
        all.refused.truncate(MOST_REFUSED);
        all.unsettled = replicas.unsettled(all.total, Instant::now());
        all
    }

    pub(super) fn in_the_way_of_all(&self, revision: Revision) -> Vec<Refused> {
        let mut refused = self.registry().in_the_way(revision);
        let replicas = self.replicas();
        let others = replicas.others.values().flat_map(|other| other.in_the_way(revision));
        add_refused(&mut refused, others.cloned());
        refused.truncate(MOST_REFUSED);
        refused
    }

    pub(super) fn standings_of_all(&self) -> Standings {
        let (registry, replicas) = (self.registry(), self.replicas());
        let mut all = registry.standings();
        let own: usize = all.groups.iter().map(|group| group.sidecars + group.clients).sum();
        for other in replicas.others.values() {
            all.groups.extend(other.groups.iter().map(Group::clone));
            add_refused(&mut all.refused, other.refused.iter().cloned());
        }
        all.refused.truncate(MOST_STANDING_REFUSED);
        all.unsettled = replicas.unsettled(own + replicas.nodes(), Instant::now());
        all
    }
}

/// All control planes hold back the same: that is told once.
fn add_refused(all: &mut Vec<Refused>, others: impl IntoIterator<Item = Refused>) {
    for one in others {
        if !(one.is_held_back() && all.contains(&one)) {
            all.push(one);
        }
    }
}

#[cfg(test)]
mod tests;
