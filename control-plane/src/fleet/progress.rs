//! How far revisions are on the fleet, read from the counts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use segue_control_plane_core::config::MeshConfig;
use segue_shared::ids::Revision;
use tokio::time::Instant;

use super::node::Node;
use super::record::Rejection;
use super::registry::Registry;
use super::unsettled::Unsettled;

/// Node ids that are named as missing.
pub(super) const MOST_MISSING: usize = 20;
/// Refusals that are told.
pub(super) const MOST_REFUSED: usize = 50;
/// Refusals that conditions are read from.
pub(super) const MOST_STANDING_REFUSED: usize = 1_000;

/// How far one revision is. Only connected nodes count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Sidecars.
    pub total: usize,
    /// Those that accepted it.
    pub accepted: usize,
    /// Those that run on it.
    pub activated: usize,
    /// Some that do not run on it yet, at most 20.
    pub missing: Vec<String>,
    /// What of it is refused, by any xDS client; at most 50.
    pub refused: Vec<Refused>,
    /// Why there may be more nodes than these.
    pub unsettled: Option<Unsettled>,
}

/// A resource that a node refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub node_id: Arc<str>,
    /// Service that the node stands next to.
    pub service: Arc<str>,
    /// What the node runs on.
    pub activated: Revision,
    pub rejection: Rejection,
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

/// Where all sidecars stand.
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

/// Connected sidecars of one service that run on one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `namespace/name`; empty for those that stand next to none.
    pub service: Arc<str>,
    pub activated: Revision,
    pub sidecars: usize,
}

impl Registry {
    pub fn progress(&self, revision: Revision) -> Progress {
        let index = &self.index;
        let activated = index.activated.range(revision..).map(|(_, nodes)| nodes.len()).sum();
        let behind = index.activated.range(..revision);
        let missing = behind.flat_map(|(_, nodes)| nodes).map(ToString::to_string);
        let refuses = |node: &Node, one: &Rejection| refuses(node.activated(), one, revision);
        Progress {
            total: index.activated.values().map(BTreeSet::len).sum(),
            accepted: index.accepted.range(revision..).map(|(_, nodes)| nodes).sum(),
            activated,
            missing: missing.take(MOST_MISSING).collect(),
            refused: self.refused(refuses).take(MOST_REFUSED).collect(),
            unsettled: None,
        }
    }

    pub fn in_the_way(&self, revision: Revision) -> Vec<Refused> {
        let not_there = |node: &Node, _: &Rejection| {
            node.activated() < revision && node.standing().is_some_and(|node| node.reports)
        };
        self.refused(not_there).take(MOST_REFUSED).collect()
    }

    pub fn standings(&self) -> Standings {
        let groups = self.index.services.iter().map(|((service, activated), sidecars)| Group {
            service: Arc::clone(service),
            activated: *activated,
            sidecars: *sidecars,
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
            sidecars: index.activated.values().map(BTreeSet::len).sum(),
            clients: index.clients.values().map(BTreeSet::len).sum(),
            behind: index.activated.range(..newest).map(|(_, nodes)| nodes.len()).sum(),
            stale: sidecars_behind().chain(clients_behind).filter(is_stale).count(),
            rejections: index.rejections,
            loads_ignored: self.loads_ignored,
        }
    }

    pub(super) fn refused<'a>(
        &'a self,
        holds: impl Fn(&Node, &Rejection) -> bool + 'a,
    ) -> impl Iterator<Item = Refused> + 'a {
        let rejecting =
            self.index.rejecting.iter().filter_map(|id| Some((id, self.nodes.get(id)?)));
        rejecting.flat_map(move |(id, node)| {
            let refused = node.rejections().iter().filter(|one| holds(node, one));
            let told = refused.map(|rejection| Refused {
                node_id: Arc::clone(id),
                service: Arc::clone(node.service()),
                activated: node.activated(),
                rejection: rejection.clone(),
            });
            told.collect::<Vec<_>>()
        })
    }
}

/// A refusal counts where the resource came with this revision, or with a later one that overtook
/// it; a node that runs on this revision may refuse later ones as it likes.
pub(super) fn refuses(activated: Revision, rejection: &Rejection, revision: Revision) -> bool {
    rejection.revision == revision || (rejection.revision > revision && activated < revision)
}
