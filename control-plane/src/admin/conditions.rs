//! How far a resource is on its way to requests, as conditions. Pure, from where the fleet stands.

mod about;

use std::fmt::Write as _;

use segue_control_plane_core::compile::Reach;
use segue_control_plane_core::config::{self, Kind};
use segue_proto::admin::v1::Condition;
use segue_proto::admin::v1::condition::Status;
use segue_proto::config::v1::resource::Resource as Body;
use segue_proto::config::v1::{Resource, TargetReference};
use segue_shared::ids::{Revision, ServiceName};

use crate::fleet::{Refused, Standings, Unsettled};
use crate::store::StoredResource;
use about::{About, Abouts};

/// Every commit is checked. What this release's checks refuse all the same is held back.
const CHECKED_BEFORE: &str = "it was checked when it was committed";

/// Where the fleet stands, prepared for the resources of one answer.
pub struct Outlook {
    /// The newest revision that is offered to nodes.
    published: Revision,
    groups: Vec<Group>,
    refused: Vec<(About, Refused)>,
    /// Why there may be more nodes than those of the groups.
    unsettled: Option<Unsettled>,
    names_nodes: bool,
}

/// Nodes that get the same and have reached the same.
struct Group {
    /// `None`: they get everything.
    reach: Option<Reach>,
    activated: Revision,
    sidecars: usize,
    clients: usize,
}

impl Outlook {
    /// `names_nodes`: whether those who read it may know of nodes, and why they refuse what they do,
    /// whatever service they belong to.
    pub fn new(standings: Standings, names_nodes: bool) -> Self {
        let Standings { published, groups, refused, unsettled } = standings;
        let groups = groups
            .into_iter()
            .map(|group| Group {
                reach: group.service.parse().ok().and_then(|name| Reach::of(&published, &name)),
                activated: group.activated,
                sidecars: group.sidecars,
                clients: group.clients,
            })
            .collect();
        let mut abouts = Abouts::new(&published);
        let refused =
            refused.into_iter().filter_map(|one| Some((abouts.of(&one.rejection)?, one))).collect();
        Self { published: published.revision, groups, refused, unsettled, names_nodes }
    }

    /// `Accepted`, `ResolvedRefs` and `Programmed` of a resource of the newest revision.
    pub fn conditions(&self, stored: &StoredResource) -> Vec<Condition> {
        let condition =
            |r#type: &str, (status, reason, message): (Status, &str, String)| Condition {
                r#type: r#type.to_owned(),
                status: status.into(),
                reason: reason.to_owned(),
                message,
                observed_generation: stored.revision.0,
            };
        let resolved = if stored.revision <= self.published {
            "all that it names exists"
        } else {
            CHECKED_BEFORE
        };
        let service = subject(stored);
        vec![
            condition("Accepted", self.accepted(stored, &service)),
            condition("ResolvedRefs", (Status::True, "ResolvedRefs", resolved.to_owned())),
            condition("Programmed", self.programmed(stored, &service)),
        ]
    }

    fn accepted(
        &self,
        stored: &StoredResource,
        service: &ServiceName,
    ) -> (Status, &'static str, String) {
        let held_back = self.refused.iter().find(|(about, one)| {
            one.is_held_back() && about.concerns(&one.rejection, one.activated, stored, service)
        });
        if let Some((_, one)) = held_back {
            return (Status::False, "HeldBack", one.to_string());
        }
        let told =
            if stored.revision <= self.published { "it passes the checks" } else { CHECKED_BEFORE };
        (Status::True, "Accepted", told.to_owned())
    }

    fn programmed(
        &self,
        stored: &StoredResource,
        service: &ServiceName,
    ) -> (Status, &'static str, String) {
        let (kind, revision) = (stored.key.kind, stored.revision);
        if revision > self.published {
            return (Status::False, "NotPublished", self.not_published(stored, service));
        }
        let without_effect: Vec<String> = config::notices([&stored.resource])
            .into_iter()
            .map(|notice| match notice.split_once(": ") {
                Some((_, what)) => what.to_owned(),
                None => notice,
            })
            .collect();
        if matches!(kind, Kind::AccessPolicy | Kind::Rollout) && !without_effect.is_empty() {
            return (Status::False, "NoEffect", without_effect.join("; "));
        }
        let (status, reason, mut message) = self.delivered(stored, service);
        for what in without_effect {
            message.push_str("; ");
            message.push_str(&what);
        }
        (status, reason, message)
    }

    /// Why a resource is newer than what nodes are offered.
    fn not_published(&self, stored: &StoredResource, service: &ServiceName) -> String {
        let revision = stored.revision;
        let in_the_way = self.refused.iter().filter(|(_, one)| {
            let rejection = &one.rejection;
            one.is_held_back() && rejection.revision >= revision && one.activated < revision
        });
        let mut told = in_the_way.map(|(about, one)| {
            // What is wrong with others is told to those who may see them.
            let is_told =
                self.names_nodes || about.concerns(&one.rejection, one.activated, stored, service);
            if is_told { one.to_string() } else { "another resource of it is held back".to_owned() }
        });
        match told.next() {
            Some(why) => format!("revision {revision} is not published: {why}"),
            None => format!("revision {revision} is not published yet"),
        }
    }

    fn delivered(
        &self,
        stored: &StoredResource,
        service: &ServiceName,
    ) -> (Status, &'static str, String) {
        let (kind, revision) = (stored.key.kind, stored.revision);
        let mut refused = self.refused.iter().filter_map(|(about, one)| {
            about.concerns(&one.rejection, one.activated, stored, service).then_some(one)
        });
        if let Some(first) = refused.next() {
            let others = refused.count();
            let mut told = if self.names_nodes || first.is_held_back() {
                first.to_string()
            } else {
                let told = "a sidecar refuses what it becomes: `segue status` shows those of your \
                            namespaces";
                return (Status::False, "Rejected", told.to_owned());
            };
            if others > 0 {
                // Writing into a string cannot fail.
                let _ = write!(told, " (and {others} more refusals)");
            }
            return (Status::False, "Rejected", told);
        }
        let gets =
            |group: &&Group| group.reach.as_ref().is_none_or(|reach| gets(reach, kind, service));
        let (mut sidecars, mut clients) = (Share::default(), Share::default());
        for group in self.groups.iter().filter(gets) {
            let there = group.activated >= revision;
            sidecars.add(group.sidecars, there);
            clients.add(group.clients, there);
        }
        let mut told = Vec::new();
        if sidecars.total > 0 {
            let Share { there, total } = sidecars;
            told.push(format!("{there} of {total} sidecars run on revision {revision}"));
        }
        if clients.total > 0 {
            let Share { there, total } = clients;
            told.push(format!(
                "{there} of {total} Envoys and gRPC clients ACKed revision {revision}"
            ));
        }
        let told = told.join(", ");
        match (sidecars, clients) {
            (Share { total: 0, .. }, Share { total: 0, .. }) => {
                let told = "no sidecar that gets it is connected".to_owned();
                (Status::Unknown, "NoSidecars", told)
            }
            (sidecars, clients) if sidecars.is_whole() && clients.is_whole() => {
                match self.unsettled {
                    None => (Status::True, "Activated", told),
                    Some(unsettled) => {
                        (Status::Unknown, "Unsettled", format!("{told}, but {}", unsettled.why))
                    }
                }
            }
            _ => (Status::False, "Pending", told),
        }
    }
}

/// How many of how many.
#[derive(Clone, Copy, Default)]
struct Share {
    there: usize,
    total: usize,
}

impl Share {
    fn add(&mut self, nodes: usize, there: bool) {
        self.total += nodes;
        self.there += if there { nodes } else { 0 };
    }

    fn is_whole(self) -> bool {
        self.there == self.total
    }
}

/// Of a service that is only an upstream, its versions are sent and how to reach them.
fn gets(reach: &Reach, kind: Kind, service: &ServiceName) -> bool {
    let as_upstream = matches!(kind, Kind::Service | Kind::TrafficPolicy);
    reach.calls(service) || as_upstream && reach.leads_to(service)
}

/// The service that a resource is, or is about.
fn subject(stored: &StoredResource) -> ServiceName {
    let key = &stored.key;
    match target(&stored.resource) {
        Some(target) if target.namespace.is_empty() => {
            ServiceName::new(key.namespace.as_str(), target.name.as_str())
        }
        Some(target) => ServiceName::new(target.namespace.as_str(), target.name.as_str()),
        None => ServiceName::new(key.namespace.as_str(), key.name.as_str()),
    }
}

fn target(resource: &Resource) -> Option<&TargetReference> {
    match resource.resource.as_ref()? {
        Body::Service(_) => None,
        Body::Route(it) => it.spec.as_ref()?.target_ref.as_ref(),
        Body::TrafficPolicy(it) => it.spec.as_ref()?.target_ref.as_ref(),
        Body::AccessPolicy(it) => it.spec.as_ref()?.target_ref.as_ref(),
        Body::ContextPolicy(it) => it.spec.as_ref()?.target_ref.as_ref(),
        Body::Rollout(it) => it.spec.as_ref()?.target_ref.as_ref(),
    }
}

#[cfg(test)]
mod tests;
