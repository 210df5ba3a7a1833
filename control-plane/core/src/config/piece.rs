//! What one resource adds to the mesh, so that a change replaces pieces instead of everything.

use std::sync::Arc;

use imbl::OrdMap;
use segue_shared::ids::ServiceName;

use super::key::Kind;
use super::mesh::{Faults, MeshConfig, Mtls, Route, Service, Sessions, TrafficPolicy};

/// A piece, and the service that it is about.
pub(super) enum Piece {
    Service(ServiceName, Arc<Service>),
    Route(ServiceName, Arc<Route>),
    Traffic(ServiceName, Arc<TrafficPolicy>),
    Sessions(ServiceName, Arc<Sessions>),
    Access(ServiceName, Arc<Faults>, Mtls),
}

impl Piece {
    pub fn service(service: Service) -> Self {
        Self::Service(service.name.clone(), Arc::new(service))
    }

    pub fn route((target, route): (ServiceName, Route)) -> Self {
        Self::Route(target, Arc::new(route))
    }

    pub fn traffic((target, policy): (ServiceName, TrafficPolicy)) -> Self {
        Self::Traffic(target, Arc::new(policy))
    }

    pub fn sessions((target, sessions): (ServiceName, Sessions)) -> Self {
        Self::Sessions(target, Arc::new(sessions))
    }

    pub fn access((target, faults, mtls): (ServiceName, Faults, Mtls)) -> Self {
        Self::Access(target, Arc::new(faults), mtls)
    }

    /// Puts the piece in its place. One that says what is there already leaves what is there, so
    /// that a comparison finds nothing to look at.
    pub fn put(self, mesh: &mut MeshConfig) {
        match self {
            Self::Service(name, piece) => replace(&mut mesh.services, name, piece),
            Self::Route(target, piece) => replace(&mut mesh.routes, target, piece),
            Self::Traffic(target, piece) => replace(&mut mesh.traffic, target, piece),
            Self::Sessions(target, piece) => replace(&mut mesh.sessions, target, piece),
            Self::Access(target, faults, mtls) => {
                if mesh.mtls.get(&target) != Some(&mtls) {
                    mesh.mtls.insert(target.clone(), mtls);
                }
                if *faults == Faults::default() {
                    mesh.faults.remove(&target);
                } else {
                    replace(&mut mesh.faults, target, faults);
                }
            }
        }
    }
}

/// Takes away what a resource of this kind added about the service.
pub(super) fn clear(mesh: &mut MeshConfig, kind: Kind, service: &ServiceName) {
    match kind {
        Kind::Service => drop(mesh.services.remove(service)),
        Kind::Route => drop(mesh.routes.remove(service)),
        Kind::TrafficPolicy => drop(mesh.traffic.remove(service)),
        Kind::ContextPolicy => drop(mesh.sessions.remove(service)),
        Kind::AccessPolicy => {
            mesh.faults.remove(service);
            mesh.mtls.remove(service);
        }
        Kind::Rollout => {}
    }
}

fn replace<V: ?Sized + PartialEq>(
    map: &mut OrdMap<ServiceName, Arc<V>>,
    name: ServiceName,
    piece: Arc<V>,
) {
    if map.get(&name) != Some(&piece) {
        map.insert(name, piece);
    }
}
