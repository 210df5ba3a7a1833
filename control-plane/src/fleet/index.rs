//! How many connected nodes stand where, kept up to date as they move.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use segue_shared::ids::Revision;

use super::node::Standing;

/// Counts and names of connected nodes.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Sidecars by the revision that they run on.
    pub activated: BTreeMap<Revision, BTreeSet<Arc<str>>>,
    /// How many sidecars accepted which revision.
    pub accepted: BTreeMap<Revision, usize>,
    /// Other xDS clients by the revision that they accepted.
    pub clients: BTreeMap<Revision, BTreeSet<Arc<str>>>,
    /// How many nodes of a service have reached which revision.
    pub services: BTreeMap<(Arc<str>, Revision), Crowd>,
    /// Nodes that refuse something.
    pub rejecting: BTreeSet<Arc<str>>,
    /// Resources that nodes refuse.
    pub rejections: usize,
}

/// Nodes of one service on one revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Crowd {
    /// They run on it.
    pub sidecars: usize,
    /// Other xDS clients, which accepted it.
    pub clients: usize,
}

impl Index {
    /// A node stands elsewhere than before; `None` is not connected.
    pub fn moved(
        &mut self,
        node_id: &Arc<str>,
        before: Option<&Standing>,
        after: Option<&Standing>,
    ) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.remove(node_id, before);
        }
        if let Some(after) = after {
            self.add(node_id, after);
        }
    }

    fn add(&mut self, node_id: &Arc<str>, standing: &Standing) {
        let node = Arc::clone(node_id);
        let crowd = self.services.entry(standing.crowd()).or_default();
        if standing.reports {
            crowd.sidecars += 1;
            self.activated.entry(standing.activated).or_default().insert(node);
            *self.accepted.entry(standing.accepted).or_default() += 1;
        } else {
            crowd.clients += 1;
            self.clients.entry(standing.accepted).or_default().insert(node);
        }
        if standing.rejections > 0 {
            self.rejecting.insert(Arc::clone(node_id));
            self.rejections += standing.rejections;
        }
    }

    fn remove(&mut self, node_id: &Arc<str>, standing: &Standing) {
        if standing.reports {
            leave(&mut self.activated, standing.activated, node_id);
            less(&mut self.accepted, standing.accepted);
        } else {
            leave(&mut self.clients, standing.accepted, node_id);
        }
        let crowd = standing.crowd();
        if let Some(known) = self.services.get_mut(&crowd) {
            let left = if standing.reports { &mut known.sidecars } else { &mut known.clients };
            *left -= 1;
            if *known == Crowd::default() {
                self.services.remove(&crowd);
            }
        }
        if standing.rejections > 0 {
            self.rejecting.remove(node_id);
            self.rejections -= standing.rejections;
        }
    }
}

fn leave(
    sets: &mut BTreeMap<Revision, BTreeSet<Arc<str>>>,
    revision: Revision,
    node_id: &Arc<str>,
) {
    if let Some(set) = sets.get_mut(&revision) {
        set.remove(node_id);
        if set.is_empty() {
            sets.remove(&revision);
        }
    }
}

fn less(counts: &mut BTreeMap<Revision, usize>, revision: Revision) {
    if let Some(count) = counts.get_mut(&revision) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&revision);
        }
    }
}
