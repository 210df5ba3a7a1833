//! Snapshots with only what the instances of one service need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use segue_shared::ids::{Revision, ServiceName};

use super::NodeKind;
use super::changes::Input;
use super::piece::{Part, Piece, leads_to};
use super::view::{Change, View};
use crate::config::mesh::MeshConfig;

pub(super) type Pieces = OrdMap<ServiceName, Arc<Piece>>;

/// A service's piece before and after an update.
pub(super) struct Replaced {
    pub service: ServiceName,
    pub before: Option<Arc<Piece>>,
    pub after: Option<Arc<Piece>>,
}

/// Services by name, and how much of each.
type Members = BTreeMap<ServiceName, Part>;

/// Of which services the instances of a service are sent something.
#[derive(Clone, Debug)]
pub struct Reach(Members);

impl Reach {
    /// `None` where they are sent everything.
    pub fn of(config: &MeshConfig, service: &ServiceName) -> Option<Self> {
        let declared = config.services.get(service)?.depends_on.as_deref()?;
        Some(Self(members(service, declared, |name| leads_to(config, name))))
    }

    /// Whether they may call a service.
    pub fn calls(&self, service: &ServiceName) -> bool {
        self.0.get(service) == Some(&Part::Whole)
    }

    /// Whether they are sent the versions of a service, which they may call or be led to.
    pub fn leads_to(&self, service: &ServiceName) -> bool {
        self.0.contains_key(service)
    }
}

/// A service's own snapshot.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    members: Arc<Members>,
    pub view: View,
}

impl Scope {
    /// The snapshot of a service; `None` where it gets that of all services.
    pub fn new(
        kind: NodeKind,
        input: &Input,
        pieces: &Pieces,
        service: &ServiceName,
    ) -> Option<Self> {
        let empty = Self { members: Arc::default(), view: View::new(kind, Revision::NONE) };
        empty.next(kind, input, pieces, service, &[], true)
    }

    /// The snapshot after an update that replaced pieces; `None` where the service gets that of all
    /// services from now on. `moved` tells that the service may depend on others than before.
    pub fn next<'a>(
        &self,
        kind: NodeKind,
        input: &Input,
        pieces: &Pieces,
        service: &ServiceName,
        replaced: &'a [Replaced],
        moved: bool,
    ) -> Option<Self> {
        let declared = input.depends_on(service)?;
        let rerouted = || {
            replaced.iter().any(|one| {
                let leads = |piece: &'a Option<Arc<Piece>>| piece.as_ref().map(|it| &it.leads_to);
                self.members.get(&one.service) == Some(&Part::Whole)
                    && leads(&one.before) != leads(&one.after)
            })
        };
        let members = if moved || rerouted() {
            let leads_to = |name: &_| pieces.get(name).map(|piece| piece.leads_to.clone());
            Arc::new(members(service, declared, |name| leads_to(name).unwrap_or_default()))
        } else {
            Arc::clone(&self.members)
        };
        let mut changes = Vec::new();
        for Replaced { service, before, after } in replaced {
            changes.extend(change(
                before.as_ref().zip(self.members.get(service)),
                after.as_ref().zip(members.get(service)),
            ));
        }
        if !Arc::ptr_eq(&members, &self.members) {
            let others = self.members.keys().chain(members.keys());
            for other in others.filter(|other| self.members.get(*other) != members.get(*other)) {
                // Those whose piece was replaced are among the changes already.
                if replaced.iter().all(|one| one.service != *other) {
                    let piece = pieces.get(other);
                    changes.extend(change(
                        piece.zip(self.members.get(other)),
                        piece.zip(members.get(other)),
                    ));
                }
            }
        }
        let hosts = hosts(pieces, &members);
        let view = self.view.next(kind, input.config.revision, &changes, hosts);
        Some(Self { members, view })
    }
}

fn change<'a>(
    before: Option<(&'a Arc<Piece>, &Part)>,
    after: Option<(&'a Arc<Piece>, &Part)>,
) -> Option<Change<'a>> {
    let held = |(piece, part): (&'a Arc<Piece>, &Part)| (&**piece, *part);
    (before.is_some() || after.is_some())
        .then(|| Change { before: before.map(held), after: after.map(held) })
}

/// Itself and what it depends on may be called; what routes of those lead to is only an upstream.
fn members(
    service: &ServiceName,
    depends_on: &[ServiceName],
    leads_to: impl Fn(&ServiceName) -> BTreeSet<ServiceName>,
) -> Members {
    let mut members: Members =
        depends_on.iter().chain([service]).map(|name| (name.clone(), Part::Whole)).collect();
    let upstreams: Vec<ServiceName> = members.keys().flat_map(leads_to).collect();
    for led_to in upstreams {
        members.entry(led_to).or_insert(Part::Upstream);
    }
    members
}

/// The encoded virtual hosts of those that may be called, by name.
fn hosts<'a>(pieces: &'a Pieces, members: &Members) -> impl Iterator<Item = &'a Bytes> + Clone {
    members
        .iter()
        .filter(|(_, part)| **part == Part::Whole)
        .filter_map(|(name, _)| pieces.get(name))
        .map(|piece| &piece.host)
        .filter(|host| !host.is_empty())
}
