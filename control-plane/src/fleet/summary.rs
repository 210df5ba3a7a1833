//! What a control plane tells the others of its fleet: small, however many nodes there are.

mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use segue_shared::ids::Revision;

use super::node::Node;
use super::progress::{Group, MOST_MISSING, MOST_REFUSED, Progress, Refused, refuses};
use super::record::Rejection;
use super::registry::Registry;

/// Bytes of groups. What would be more is told under no service: counted, and no longer told apart.
const MOST_GROUP_BYTES: usize = 512 * 1024;
/// What a group needs beside its service's name.
const GROUP_BYTES: usize = 16;
/// Refusals that those which are told are chosen from.
const MOST_LOOKED_AT: usize = 1_000;

/// Where the connected nodes of one control plane stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How people find that control plane.
    pub name: String,
    /// What it offers its nodes.
    pub published: Revision,
    pub groups: Vec<Group>,
    /// How many sidecars accepted which revision.
    pub accepted: Vec<(Revision, usize)>,
    /// The sidecars that are furthest behind, at most 20, and what they run on.
    pub last: Vec<(Arc<str>, Revision)>,
    /// What sidecars refuse, the newest revisions first; at most 50.
    pub refused: Vec<Refused>,
    /// What other xDS clients refuse, in the same way.
    pub refused_by_clients: Vec<Refused>,
    /// Resources that are refused, all of them.
    pub rejections: usize,
    /// Other xDS clients.
    pub clients: usize,
}

impl Summary {
    /// Sidecars.
    pub fn sidecars(&self) -> usize {
        self.groups.iter().map(|group| group.sidecars).sum()
    }

    /// Sidecars of a service, or of all, that run on a revision or a later one.
    pub fn running(&self, service: Option<&str>, revision: Revision) -> usize {
        let asked = |group: &&Group| {
            group.activated >= revision && service.is_none_or(|service| *group.service == *service)
        };
        self.groups.iter().filter(asked).map(|group| group.sidecars).sum()
    }

    pub(super) fn progress(&self, revision: Revision) -> Progress {
        let missing = self.last.iter().filter(|(_, activated)| *activated < revision);
        let accepted = self.accepted.iter().filter(|(accepted, _)| *accepted >= revision);
        let refused = self.all_refused();
        let refused = refused.filter(|one| refuses(one.activated, &one.rejection, revision));
        Progress {
            total: self.sidecars(),
            accepted: accepted.map(|(_, sidecars)| sidecars).sum(),
            activated: self.running(None, revision),
            missing: missing.map(|(node_id, _)| node_id.to_string()).collect(),
            refused: refused.cloned().collect(),
            unsettled: None,
        }
    }

    pub(super) fn in_the_way(&self, revision: Revision) -> impl Iterator<Item = &Refused> {
        self.refused.iter().filter(move |one| one.activated < revision)
    }

    pub(super) fn all_refused(&self) -> impl Iterator<Item = &Refused> {
        self.refused.iter().chain(&self.refused_by_clients)
    }
}

impl Registry {
    /// What is told to others.
    pub fn summary(&self, name: &str) -> Summary {
        let index = &self.index;
        let last = index.activated.iter().flat_map(|(activated, nodes)| {
            nodes.iter().map(|node_id| (Arc::clone(node_id), *activated))
        });
        Summary {
            name: name.to_owned(),
            published: self.published.newest(),
            groups: self.bounded_groups(),
            accepted: index.accepted.iter().map(|(at, nodes)| (*at, *nodes)).collect(),
            last: last.take(MOST_MISSING).collect(),
            refused: self.newest_refused(true),
            refused_by_clients: self.newest_refused(false),
            rejections: index.rejections,
            clients: index.clients.values().map(std::collections::BTreeSet::len).sum(),
        }
    }

    fn bounded_groups(&self) -> Vec<Group> {
        let (mut bytes, mut groups) = (0, Vec::new());
        let mut others: BTreeMap<Revision, usize> = BTreeMap::new();
        for ((service, activated), sidecars) in &self.index.services {
            bytes += service.len() + GROUP_BYTES;
            let (activated, sidecars) = (*activated, *sidecars);
            if bytes > MOST_GROUP_BYTES {
                *others.entry(activated).or_default() += sidecars;
            } else {
                groups.push(Group { service: Arc::clone(service), activated, sidecars });
            }
        }
        let others = others.into_iter().map(|(activated, sidecars)| Group {
            service: "".into(),
            activated,
            sidecars,
        });
        groups.extend(others);
        groups
    }

    fn newest_refused(&self, reports: bool) -> Vec<Refused> {
        let by = |node: &Node, _: &Rejection| {
            node.standing().is_some_and(|standing| standing.reports == reports)
        };
        let mut refused: Vec<Refused> = self.refused(by).take(MOST_LOOKED_AT).collect();
        refused.sort_by_key(|one| std::cmp::Reverse(one.rejection.revision));
        refused.truncate(MOST_REFUSED);
        refused
    }
}
