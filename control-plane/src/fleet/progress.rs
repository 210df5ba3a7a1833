//! How far revisions are on the fleet, read from the counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use segue_control_plane_core::config::MeshConfig;
use segue_shared::ids::Revision;
use tokio::time::Instant;

use super::record::{Refused, Rejection};
use super::registry::Registry;
use super::unsettled::Unsettled;

/// Node ids that are named as missing.
pub(super) const MOST_MISSING: usize = 20;
/// Refusals that are told.
pub(super) const MOST_REFUSED: usize = 50;
/// Refusals that conditions are read from.
pub(super) const MOST_STANDING_REFUSED: usize = 1_000;

/// How far one revision is. Only connected nodes count. Envoys and gRPC clients cannot tell what
/// their requests run on: they count by what they ACKed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Sidecars and other xDS clients.
    pub total: usize,
    /// Of these, those that are no sidecars.
    pub clients: usize,
    /// Those that accepted it.
    pub accepted: usize,
    /// Those that run on it.
    pub activated: usize,
    /// Some that do not run on it yet, at most 20.
    pub missing: Vec<String>,
    /// What of it is held back or refused by any node; at most 50.
    pub refused: Vec<Refused>,
    /// Why there may be more nodes than these.
    pub unsettled: Option<Unsettled>,
}

/// How many connected nodes there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sidecars.
    pub sidecars: usize,
    /// Other xDS clients.
    pub clients: usize,
    /// Sidecars that do not run on the newest published revision.
    pub behind: usize,
    /// Nodes that have been behind for longer than a push takes.
    pub stale: usize,
    /// Resources that are refused.
    pub rejections: usize,
    /// Clusters of load reports that were not counted since the start: they stand for no version,
    /// or there are more than 1,000 of one node.
    pub loads_ignored: usize,
}

/// Where all nodes stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standings {
    /// What was published last.
    pub published: Arc<MeshConfig>,
    pub groups: Vec<Group>,
    /// At most 1,000.
    pub refused: Vec<Refused>,
    /// As in [`Progress`].
    pub unsettled: Option<Unsettled>,
}

/// Connected nodes of one service that have reached one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `namespace/name`; empty for those that name none.
    pub service: Arc<str>,
    /// What the sidecars run on and the clients ACKed.
    pub activated: Revision,
    pub sidecars: usize,
    /// Other xDS clients.
    pub clients: usize,
}

impl Registry {
    pub fn progress(&self, revision: Revision) -> Progress {
        let index = &self.index;
        let clients = count(&index.clients, Revision::NONE);
        let clients_there = count(&index.clients, revision);
        let sidecars_there: usize = index.accepted.range(revision..).map(|(_, nodes)| nodes).sum();
        let behind = index.activated.range(..revision).chain(index.clients.range(..revision));
        let missing = behind.flat_map(|(_, nodes)| nodes).map(ToString::to_string);
        let refuses = |reached, one: &Rejection| refuses(reached, one, revision);
        Progress {
            total: count(&index.activated, Revision::NONE) + clients,
            clients,
            accepted: sidecars_there + clients_there,
            activated: count(&index.activated, revision) + clients_there,
            missing: missing.take(MOST_MISSING).collect(),
            refused: self.refused(refuses).take(MOST_REFUSED).collect(),
            unsettled: None,
        }
    }

    pub fn in_the_way(&self, revision: Revision) -> Vec<Refused> {
        self.refused(|reached, _| reached < revision).take(MOST_REFUSED).collect()
    }

    pub fn standings(&self) -> Standings {
        let groups = self.index.services.iter().map(|((service, activated), crowd)| Group {
            service: Arc::clone(service),
            activated: *activated,
            sidecars: crowd.sidecars,
            clients: crowd.clients,
        });
        Standings {
            published: Arc::clone(&self.config),
            groups: groups.collect(),
            refused: self.refused(|_, _| true).take(MOST_STANDING_REFUSED).collect(),
            unsettled: None,
        }
    }

    pub fn counts(&self, now: Instant, stale_after: Duration) -> Counts {
        let (index, newest) = (&self.index, self.published.newest());
        let sidecars_behind = || index.activated.range(..newest).flat_map(|(_, nodes)| nodes);
        let clients_behind = index.clients.range(..newest).flat_map(|(_, nodes)| nodes);
        let is_stale = |id: &&Arc<str>| {
            let since = self.nodes.get(*id).and_then(|node| node.behind_since(&self.published));
            since.is_some_and(|since| now.saturating_duration_since(since) > stale_after)
        };
        Counts {
            sidecars: count(&index.activated, Revision::NONE),
            clients: count(&index.clients, Revision::NONE),
            behind: index.activated.range(..newest).map(|(_, nodes)| nodes.len()).sum(),
            stale: sidecars_behind().chain(clients_behind).filter(is_stale).count(),
            rejections: index.rejections,
            loads_ignored: self.loads_ignored,
        }
    }

    /// What is held back, then what nodes refuse, as far as it counts for a node that has reached a
    /// revision.
    pub(super) fn refused<'a>(
        &'a self,
        counts: impl Fn(Revision, &Rejection) -> bool + Copy + 'a,
    ) -> impl Iterator<Item = Refused> + 'a {
        let held_back = self.held_back.iter();
        let held_back = held_back.filter(move |one| counts(one.activated, &one.rejection)).cloned();
        let rejecting =
            self.index.rejecting.iter().filter_map(|id| Some((id, self.nodes.get(id)?)));
        let refused = rejecting.flat_map(move |(id, node)| {
            let reached = node.reached();
            let refused = node.rejections().into_owned().into_iter();
            let refused = refused.filter(move |rejection| counts(reached, rejection));
            refused.map(move |rejection| Refused {
                node_id: Arc::clone(id),
                service: Arc::clone(node.service()),
                activated: reached,
                rejection,
            })
        });
        held_back.chain(refused)
    }
}

/// How many stand on a revision or on a later one.
fn count(nodes: &BTreeMap<Revision, BTreeSet<Arc<str>>>, from: Revision) -> usize {
    nodes.range(from..).map(|(_, nodes)| nodes.len()).sum()
}

/// A refusal counts where the resource came with this revision, or with a later one that overtook
/// it; a node that has reached this revision may refuse later ones as it likes.
pub(super) fn refuses(reached: Revision, rejection: &Rejection, revision: Revision) -> bool {
    rejection.revision == revision || (rejection.revision > revision && reached < revision)
}
