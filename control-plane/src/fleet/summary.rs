//! What a control plane tells the others of its fleet: small, however many nodes there are.

mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use segue_shared::ids::Revision;

use super::index::Crowd;
use super::progress::{Group, MOST_MISSING, MOST_REFUSED, Progress, refuses};
use super::record::Refused;
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
    /// The nodes that are furthest behind, at most 20, and what they have reached.
    pub last: Vec<(Arc<str>, Revision)>,
    /// What is held back there, and what nodes refuse, the newest revisions first; at most 50.
    pub refused: Vec<Refused>,
    /// Resources that are refused, all of them.
    pub rejections: usize,
}

impl Summary {
    /// Sidecars.
    pub fn sidecars(&self) -> usize {
        self.groups.iter().map(|group| group.sidecars).sum()
    }

    /// Other xDS clients.
    pub fn clients(&self) -> usize {
        self.connected_clients(None)
    }

    /// Other xDS clients of a service, or of all.
    pub fn connected_clients(&self, service: Option<&str>) -> usize {
        let asked = |group: &&Group| service.is_none_or(|service| *group.service == *service);
        self.groups.iter().filter(asked).map(|group| group.clients).sum()
    }

    pub fn nodes(&self) -> usize {
        self.sidecars() + self.clients()
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
        let refused =
            self.refused.iter().filter(|one| refuses(one.activated, &one.rejection, revision));
        let there = self.groups.iter().filter(|group| group.activated >= revision);
        let clients_there: usize = there.map(|group| group.clients).sum();
        Progress {
            total: self.nodes(),
            clients: self.clients(),
            accepted: accepted.map(|(_, sidecars)| sidecars).sum::<usize>() + clients_there,
            activated: self.running(None, revision) + clients_there,
            missing: missing.map(|(node_id, _)| node_id.to_string()).collect(),
            refused: refused.cloned().collect(),
            unsettled: None,
        }
    }

    pub(super) fn in_the_way(&self, revision: Revision) -> impl Iterator<Item = &Refused> {
        self.refused.iter().filter(move |one| one.activated < revision)
    }
}

impl Registry {
    /// What is told to others.
    pub fn summary(&self, name: &str) -> Summary {
        let index = &self.index;
        let all = index.activated.iter().chain(&index.clients);
        let mut last: Vec<(Arc<str>, Revision)> = all
            .flat_map(|(reached, nodes)| {
                let some = nodes.iter().take(MOST_MISSING);
                some.map(|node_id| (Arc::clone(node_id), *reached))
            })
            .collect();
        last.sort_by_key(|(_, reached)| *reached);
        last.truncate(MOST_MISSING);
        Summary {
            name: name.to_owned(),
            published: self.published.newest(),
            groups: self.bounded_groups(),
            accepted: index.accepted.iter().map(|(at, nodes)| (*at, *nodes)).collect(),
            last,
            refused: self.newest_refused(),
            rejections: index.rejections,
        }
    }

    fn bounded_groups(&self) -> Vec<Group> {
        let (mut bytes, mut groups) = (0, Vec::new());
        let mut others: BTreeMap<Revision, Crowd> = BTreeMap::new();
        let group = |service, activated, Crowd { sidecars, clients }| Group {
            service,
            activated,
            sidecars,
            clients,
        };
        for ((service, activated), crowd) in &self.index.services {
            bytes += service.len() + GROUP_BYTES;
            if bytes > MOST_GROUP_BYTES {
                let others = others.entry(*activated).or_default();
                others.sidecars += crowd.sidecars;
                others.clients += crowd.clients;
            } else {
                groups.push(group(Arc::clone(service), *activated, *crowd));
            }
        }
        groups.extend(others.into_iter().map(|(at, crowd)| group("".into(), at, crowd)));
        groups
    }

    fn newest_refused(&self) -> Vec<Refused> {
        let mut refused: Vec<Refused> = self.refused(|_, _| true).take(MOST_LOOKED_AT).collect();
        refused.sort_by_key(|one| std::cmp::Reverse(one.rejection.revision));
        refused.truncate(MOST_REFUSED);
        refused
    }
}
