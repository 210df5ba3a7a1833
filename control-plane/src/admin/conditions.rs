//! How far a resource is on its way to requests, as conditions. Pure, from where the fleet stands.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use segue_control_plane_core::config::{self, Kind, MeshConfig};
use segue_proto::admin::v1::Condition;
use segue_proto::admin::v1::condition::Status;
use segue_proto::config::v1::resource::Resource as Body;
use segue_proto::config::v1::{Resource, TargetReference};
use segue_shared::ids::{Revision, ServiceName};
use segue_shared::xds_names::{self, short_type, type_urls};

use crate::fleet::{Refused, Standings, Unsettled};
use crate::store::StoredResource;

/// Most bytes of a refusal's reason that are repeated.
const MAX_REASON_BYTES: usize = 300;

/// Where the fleet stands, prepared for the resources of one answer.
pub struct Outlook {
    /// The newest revision that is offered to sidecars.
    published: Revision,
    groups: Vec<Group>,
    refused: Vec<Refused>,
    /// Why there may be more sidecars than those of the groups.
    unsettled: Option<Unsettled>,
    names_nodes: bool,
}

/// Sidecars that get the same and run on the same.
struct Group {
    /// `None`: they get everything.
    scope: Option<Scope>,
    activated: Revision,
    sidecars: usize,
}

/// What a service that declares `dependsOn` gets.
struct Scope {
    /// Services that it may call.
    callable: BTreeSet<ServiceName>,
    /// Services that routes of those lead to.
    upstream: BTreeSet<ServiceName>,
}

impl Outlook {
    /// `names_nodes`: whether those who read it may know of nodes, and why they refuse what they do,
    /// whatever service they belong to.
    pub fn new(standings: Standings, names_nodes: bool) -> Self {
        let Standings { published, groups, refused, unsettled } = standings;
        let groups = groups
            .into_iter()
            .map(|group| Group {
                scope: Scope::of(&group.service, &published),
                activated: group.activated,
                sidecars: group.sidecars,
            })
            .collect();
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
        let (accepted, resolved) = if stored.revision <= self.published {
            ("it passes the checks".to_owned(), "all that it names exists".to_owned())
        } else {
            // Every commit is checked; what this release's checks refuse is not published.
            let told = "it was checked when it was committed".to_owned();
            (told.clone(), told)
        };
        vec![
            condition("Accepted", (Status::True, "Accepted", accepted)),
            condition("ResolvedRefs", (Status::True, "ResolvedRefs", resolved)),
            condition("Programmed", self.programmed(stored)),
        ]
    }

    fn programmed(&self, stored: &StoredResource) -> (Status, &'static str, String) {
        let (kind, revision) = (stored.key.kind, stored.revision);
        if revision > self.published {
            let told = format!("revision {revision} is not published yet");
            return (Status::False, "NotPublished", told);
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
        let service = subject(stored);
        let (status, reason, mut message) = self.delivered(kind, revision, &service);
        for what in without_effect {
            message.push_str("; ");
            message.push_str(&what);
        }
        (status, reason, message)
    }

    fn delivered(
        &self,
        kind: Kind,
        revision: Revision,
        service: &ServiceName,
    ) -> (Status, &'static str, String) {
        let mut refused = self.refused.iter().filter(|one| concerns(one, kind, revision, service));
        if let Some(first) = refused.next() {
            let others = refused.count();
            let told = if self.names_nodes {
                refusal(first, others)
            } else {
                "a sidecar refuses what it becomes: `segue status` shows those of your namespaces"
                    .to_owned()
            };
            return (Status::False, "Rejected", told);
        }
        let gets =
            |group: &&Group| group.scope.as_ref().is_none_or(|scope| scope.gets(kind, service));
        let (mut total, mut active) = (0, 0);
        for group in self.groups.iter().filter(gets) {
            total += group.sidecars;
            if group.activated >= revision {
                active += group.sidecars;
            }
        }
        let told = format!("{active} of {total} sidecars run on revision {revision}");
        match active {
            _ if total == 0 => {
                let told = "no sidecar that gets it is connected".to_owned();
                (Status::Unknown, "NoSidecars", told)
            }
            active if active == total => match self.unsettled {
                None => (Status::True, "Activated", told),
                Some(unsettled) => {
                    (Status::Unknown, "Unsettled", format!("{told}, but {}", unsettled.why))
                }
            },
            _ => (Status::False, "Pending", told),
        }
    }
}

impl Scope {
    /// `None` where the service gets everything.
    fn of(service: &str, config: &MeshConfig) -> Option<Self> {
        let name: ServiceName = service.parse().ok()?;
        let depends_on = config.services.get(&name)?.depends_on.as_ref()?;
        let callable: BTreeSet<ServiceName> = depends_on.iter().cloned().chain([name]).collect();
        let rules = callable
            .iter()
            .filter_map(|service| config.routes.get(service))
            .flat_map(|route| &route.rules);
        let upstream = rules
            .flat_map(|rule| {
                let backends = rule.backends.iter().map(|backend| &backend.service);
                backends.chain(rule.filters.mirror.as_ref().map(|mirror| &mirror.service))
            })
            .cloned()
            .collect();
        Some(Self { callable, upstream })
    }

    /// Of a service that is only an upstream, its versions are sent and how to reach them.
    fn gets(&self, kind: Kind, service: &ServiceName) -> bool {
        let as_upstream = matches!(kind, Kind::Service | Kind::TrafficPolicy);
        self.callable.contains(service) || as_upstream && self.upstream.contains(service)
    }
}

/// Whether a refusal keeps a resource of a revision from requests. A node that refuses what came
/// with a later revision runs on with this one, once it has come so far.
fn concerns(refused: &Refused, kind: Kind, revision: Revision, service: &ServiceName) -> bool {
    let rejection = &refused.rejection;
    let late = revision >= rejection.revision || refused.activated < revision;
    let becomes = |type_url: &str| match kind {
        Kind::Service => true,
        Kind::TrafficPolicy => type_url == type_urls::CLUSTER,
        Kind::Route | Kind::AccessPolicy | Kind::ContextPolicy | Kind::Rollout => {
            [type_urls::LISTENER, type_urls::ROUTE, type_urls::VIRTUAL_HOST].contains(&type_url)
        }
    };
    let name = rejection.resource.as_str();
    let about = match rejection.type_url.as_str() {
        type_urls::VIRTUAL_HOST => name == xds_names::virtual_host_resource(service),
        // What stands for no version is shared by all services.
        _ => xds_names::parse_cluster(name).is_none_or(|(of, _)| of == *service),
    };
    late && about && becomes(&rejection.type_url)
}

fn refusal(first: &Refused, others: usize) -> String {
    let rejection = &first.rejection;
    let reason = &rejection.reason[..rejection.reason.floor_char_boundary(MAX_REASON_BYTES)];
    let (node, r#type) = (&first.node_id, short_type(&rejection.type_url));
    let mut text = format!("{node} refuses {} {}: ", r#type, rejection.resource);
    if !rejection.field_path.is_empty() {
        text.push_str(&rejection.field_path);
        text.push_str(": ");
    }
    text.push_str(reason);
    if others > 0 {
        // Writing into a string cannot fail.
        let _ = write!(text, " (and {others} more refusals)");
    }
    text
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
