//! All resources together: from what was declared to a [`MeshConfig`], or all that is wrong.

use std::sync::Arc;

use imbl::OrdMap;
use segue_proto::config::v1::{self, resource::Resource as Body};
use segue_shared::ids::{Revision, ServiceName};

use super::fault::{Fault, Faults};
use super::key::{Kind, ResourceKey, key};
use super::lookup::{Claims, Scope, Services};
use super::mesh::MeshConfig;
use super::piece::Piece;
use super::source::Parsed;
use super::{access, context, rollout, route, service, traffic};

type ByKey = OrdMap<ResourceKey, Arc<Parsed>>;

/// Checks what no resource can check alone, and types the rest. `resources` is the whole
/// configuration: the store's and, with their places, those just written. Each has passed
/// [`super::parse`] or [`super::parse_typed`].
pub fn check(revision: Revision, resources: &[Parsed]) -> Result<MeshConfig, Faults> {
    let resources: Vec<Arc<Parsed>> = resources.iter().cloned().map(Arc::new).collect();
    let (mesh, faults) = check_all(revision, &resources);
    Faults::unless_none(faults).map(|()| mesh)
}

/// As [`check`], with what is right and what is wrong beside each other.
pub(super) fn check_all(revision: Revision, resources: &[Arc<Parsed>]) -> (MeshConfig, Vec<Fault>) {
    let mut faults = Vec::new();
    let by_key = by_key(resources, &mut faults);
    let services = Services::new(&by_key);
    let mut mesh = MeshConfig { revision, ..MeshConfig::default() };

    let (first, others): (Vec<_>, Vec<_>) = by_key.iter().partition(|(key, _)| comes_first(key));
    for (key, parsed) in first.into_iter().chain(others) {
        let scope = &mut Scope::new(key, &parsed.source, &mut faults);
        if let Some(piece) = check_one(scope, &services, &mesh, &parsed.resource) {
            piece.put(&mut mesh);
        }
    }
    one_service_a_host(&by_key, &mut faults);
    one_of_a_kind_a_service(&by_key, &services, &mut faults);

    faults.sort_by(|a, b| {
        (a.place.is_none(), &a.place, &a.resource).cmp(&(b.place.is_none(), &b.place, &b.resource))
    });
    (mesh, faults)
}

/// Whether others are checked against what this resource adds to the mesh: routes split by session
/// keys.
pub(super) fn comes_first(key: &ResourceKey) -> bool {
    key.kind == Kind::ContextPolicy
}

/// Checks one resource among the services that exist, on top of what [`comes_first`], and gives
/// what it adds to the mesh.
pub(super) fn check_one(
    scope: &mut Scope<'_>,
    services: &Services<'_>,
    mesh: &MeshConfig,
    resource: &v1::Resource,
) -> Option<Piece> {
    match resource.resource.as_ref()? {
        Body::Service(it) => service::check(scope, services, it.spec.as_ref()?).map(Piece::service),
        Body::Route(it) => {
            route::check(scope, services, &mesh.sessions, it.spec.as_ref()?).map(Piece::route)
        }
        Body::TrafficPolicy(it) => {
            traffic::check(scope, services, it.spec.as_ref()?).map(Piece::traffic)
        }
        Body::ContextPolicy(it) => {
            context::check(scope, services, it.spec.as_ref()?).map(Piece::sessions)
        }
        Body::AccessPolicy(it) => {
            access::check(scope, services, it.spec.as_ref()?).map(Piece::access)
        }
        Body::Rollout(it) => {
            rollout::check(scope, services, it.spec.as_ref()?);
            None
        }
    }
}

/// All hosts that lead to a service: its own names and those that are written, in lower case, each
/// with the field that says so.
pub(super) fn hosts(key: &ResourceKey, resource: &v1::Resource) -> Vec<(String, String)> {
    let Some(Body::Service(it)) = &resource.resource else { return Vec::new() };
    let own = service::own_hosts(key).into_iter().map(|host| (host, "metadata.name".to_owned()));
    let written = it.spec.iter().flat_map(|spec| spec.hosts.iter().enumerate());
    own.chain(written.map(|(i, host)| (host.to_ascii_lowercase(), format!("spec.hosts[{i}]"))))
        .collect()
}

/// The service of which there is only one resource of this kind: the service itself, or the one
/// that a route or a policy is about. Rollouts may be many: they follow each other.
pub(super) fn subject(key: &ResourceKey, resource: &v1::Resource) -> Option<ServiceName> {
    let target = match resource.resource.as_ref()? {
        Body::Service(_) => {
            return Some(ServiceName::new(key.namespace.clone(), key.name.clone()));
        }
        Body::Route(it) => it.spec.as_ref()?.target_ref.as_ref()?,
        Body::TrafficPolicy(it) => it.spec.as_ref()?.target_ref.as_ref()?,
        Body::AccessPolicy(it) => it.spec.as_ref()?.target_ref.as_ref()?,
        Body::ContextPolicy(it) => it.spec.as_ref()?.target_ref.as_ref()?,
        Body::Rollout(_) => return None,
    };
    let namespace = if target.namespace.is_empty() { &key.namespace } else { &target.namespace };
    Some(ServiceName::new(namespace.clone(), target.name.clone()))
}

fn by_key(resources: &[Arc<Parsed>], faults: &mut Vec<Fault>) -> ByKey {
    let mut claims = Claims::default();
    let mut by_key = ByKey::new();
    for parsed in resources {
        let key = key(&parsed.resource);
        if let Some(first) = claims.claim(key.to_string(), &key, &parsed.source, "metadata.name") {
            let message = format!("{key} is declared already{}", first.winner_place);
            first.fault(faults, message, "give one of them another name");
        } else {
            by_key.insert(key, Arc::clone(parsed));
        }
    }
    by_key
}

/// A host leads to one service only, the names of services included.
fn one_service_a_host(by_key: &ByKey, faults: &mut Vec<Fault>) {
    let mut claims = Claims::default();
    let services = || by_key.iter().take_while(|(key, _)| key.kind == Kind::Service);
    // A service's own name goes before what others write.
    for own in [true, false] {
        for (key, parsed) in services() {
            for (host, path) in hosts(key, &parsed.resource) {
                if (path == "metadata.name") != own {
                    continue;
                }
                let Some(other) = claims.claim(host.clone(), key, &parsed.source, &path) else {
                    continue;
                };
                let message = format!(
                    "the host `{host}` is claimed by {} already{}",
                    other.winner, other.winner_place
                );
                other.fault(faults, message, "a host leads to one service only");
            }
        }
    }
}

/// One route, and one policy of each kind, a service.
fn one_of_a_kind_a_service(by_key: &ByKey, services: &Services<'_>, faults: &mut Vec<Fault>) {
    let mut claims = Claims::default();
    for (key, parsed) in by_key.iter().filter(|(key, _)| key.kind != Kind::Service) {
        let Some(service) = subject(key, &parsed.resource) else { continue };
        if !services.exists(&service) {
            continue;
        }
        let subject = format!("{} of {service}", key.kind);
        let path = "spec.targetRef";
        if let Some(other) = claims.claim(subject, key, &parsed.source, path) {
            let message =
                format!("Service {service} has the {} already{}", other.winner, other.winner_place);
            other.fault(faults, message, format!("one {} a service: join them", key.kind));
        }
    }
}
