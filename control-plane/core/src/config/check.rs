//! All resources together: from what was declared to a [`MeshConfig`], or all that is wrong.

use std::collections::BTreeMap;

use segue_proto::config::v1::{self, resource::Resource as Body};
use segue_shared::ids::{Revision, ServiceName};

use super::fault::{Fault, Faults};
use super::key::{Kind, ResourceKey, key};
use super::lookup::{Claims, Scope, Services};
use super::mesh::MeshConfig;
use super::source::Parsed;
use super::{access, context, rollout, route, service, traffic};

/// Checks what no resource can check alone, and types the rest. `resources` is the whole
/// configuration: the store's and, with their places, those just written. Each has passed
/// [`super::parse`] or [`super::parse_typed`].
pub fn check(revision: Revision, resources: &[Parsed]) -> Result<MeshConfig, Faults> {
    let (mesh, faults) = check_all(revision, resources);
    Faults::unless_none(faults).map(|()| mesh)
}

/// As [`check`], with what is right and what is wrong beside each other.
pub(super) fn check_all(revision: Revision, resources: &[Parsed]) -> (MeshConfig, Vec<Fault>) {
    let mut faults = Vec::new();
    let by_key = by_key(resources, &mut faults);
    let services = Services::new(&by_key);
    let mut mesh = MeshConfig { revision, ..MeshConfig::default() };

    // Session keys come before the routes, which split by them.
    for (key, parsed) in of_kind(&by_key, Kind::ContextPolicy) {
        let Some(Body::ContextPolicy(it)) = &parsed.resource.resource else { continue };
        let mut scope = Scope::new(key, &parsed.source, &mut faults);
        let checked = it.spec.as_ref().map(|spec| context::check(&mut scope, &services, spec));
        mesh.session_keys.extend(checked.flatten());
    }
    for (key, parsed) in &by_key {
        let scope = &mut Scope::new(key, &parsed.source, &mut faults);
        match &parsed.resource.resource {
            Some(Body::Service(v1::Service { spec: Some(spec), .. })) => {
                let checked = service::check(scope, &services, spec);
                mesh.services.extend(checked.map(|service| (service.name.clone(), service)));
            }
            Some(Body::Route(v1::Route { spec: Some(spec), .. })) => {
                mesh.routes.extend(route::check(scope, &services, &mesh.session_keys, spec));
            }
            Some(Body::TrafficPolicy(v1::TrafficPolicy { spec: Some(spec), .. })) => {
                mesh.traffic.extend(traffic::check(scope, &services, spec));
            }
            Some(Body::AccessPolicy(v1::AccessPolicy { spec: Some(spec), .. })) => {
                access::check(scope, &services, spec);
            }
            Some(Body::Rollout(v1::Rollout { spec: Some(spec), .. })) => {
                rollout::check(scope, &services, spec);
            }
            _ => {}
        }
    }
    one_service_a_host(&by_key, &mut faults);
    one_of_a_kind_a_service(&by_key, &services, &mut faults);

    faults.sort_by(|a, b| {
        (a.place.is_none(), &a.place, &a.resource).cmp(&(b.place.is_none(), &b.place, &b.resource))
    });
    (mesh, faults)
}

type ByKey<'a> = BTreeMap<ResourceKey, &'a Parsed>;

fn of_kind<'a, 'b>(
    by_key: &'b ByKey<'a>,
    kind: Kind,
) -> impl Iterator<Item = (&'b ResourceKey, &'a Parsed)> {
    by_key.iter().filter(move |(key, _)| key.kind == kind).map(|(key, parsed)| (key, *parsed))
}

fn by_key<'a>(resources: &'a [Parsed], faults: &mut Vec<Fault>) -> ByKey<'a> {
    let mut claims = Claims::default();
    let mut by_key = BTreeMap::new();
    for parsed in resources {
        let key = key(&parsed.resource);
        if let Some(first) = claims.claim(key.to_string(), &key, &parsed.source, "metadata.name") {
            let message = format!("{key} is declared already{}", first.winner_place);
            first.fault(faults, message, "give one of them another name");
        } else {
            by_key.insert(key, parsed);
        }
    }
    by_key
}

/// A host leads to one service only, the names of services included.
fn one_service_a_host<'a>(by_key: &ByKey<'a>, faults: &mut Vec<Fault>) {
    let mut claims = Claims::default();
    let mut claim = |host: String, key: &ResourceKey, parsed: &'a Parsed, path: &str| {
        let Some(other) = claims.claim(host.clone(), key, &parsed.source, path) else { return };
        let message = format!(
            "the host `{host}` is claimed by {} already{}",
            other.winner, other.winner_place
        );
        other.fault(faults, message, "a host leads to one service only");
    };
    // A service's own name goes before what others write.
    for (key, parsed) in of_kind(by_key, Kind::Service) {
        for host in service::own_hosts(key) {
            claim(host, key, parsed, "metadata.name");
        }
    }
    for (key, parsed) in of_kind(by_key, Kind::Service) {
        let Some(Body::Service(it)) = &parsed.resource.resource else { continue };
        for (i, host) in it.spec.iter().flat_map(|spec| spec.hosts.iter().enumerate()) {
            claim(host.to_ascii_lowercase(), key, parsed, &format!("spec.hosts[{i}]"));
        }
    }
}

/// One route, and one policy of each kind, a service. Rollouts may be many: they follow each other.
fn one_of_a_kind_a_service(by_key: &ByKey<'_>, services: &Services<'_>, faults: &mut Vec<Fault>) {
    let mut claims = Claims::default();
    for (key, parsed) in by_key {
        let target = match &parsed.resource.resource {
            Some(Body::Route(it)) => it.spec.as_ref().map(|spec| &spec.target_ref),
            Some(Body::TrafficPolicy(it)) => it.spec.as_ref().map(|spec| &spec.target_ref),
            Some(Body::AccessPolicy(it)) => it.spec.as_ref().map(|spec| &spec.target_ref),
            Some(Body::ContextPolicy(it)) => it.spec.as_ref().map(|spec| &spec.target_ref),
            Some(Body::Service(_) | Body::Rollout(_)) | None => None,
        };
        let target = target.and_then(Option::as_ref);
        let Some(target) = target else { continue };
        let namespace =
            if target.namespace.is_empty() { &key.namespace } else { &target.namespace };
        let service = ServiceName::new(namespace.clone(), target.name.clone());
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
