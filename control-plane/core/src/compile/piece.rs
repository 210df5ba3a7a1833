//! What one service adds to snapshots: compiled once, shared by all of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use segue_shared::ids::ServiceName;
use segue_shared::spiffe::TrustDomain;
use segue_shared::xds_names::{self, type_urls};

use super::changes::{Input, Touched};
use super::{NodeKind, cluster, endpoint, grpc, inbound, route, tcp};
use crate::config::mesh::{MeshConfig, Protocol, Service};
use crate::snapshot::EncodedResource;

/// A resource and its type.
pub(super) type Placed = (&'static str, Arc<EncodedResource>);

/// The resources of one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Piece {
    pub clusters: Vec<Placed>,
    pub assignments: Vec<Placed>,
    /// How callers reach the versions: a virtual host, or listeners and routes.
    pub entrance: Vec<Placed>,
    /// The virtual host, encoded, where one `RouteConfiguration` holds those of all services.
    pub host: Bytes,
    /// Other services that the routes lead to.
    pub leads_to: BTreeSet<ServiceName>,
}

/// How much of a service a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Its versions only, which routes of other services lead to.
    Upstream,
    /// Also the way to it: it may be called.
    Whole,
}

impl Piece {
    /// Compiles what is touched; the rest, and what comes out equal, stays that of `before`. `None`
    /// where there is no such service any more.
    pub fn compile(
        kind: NodeKind,
        domain: &TrustDomain,
        input: &Input,
        name: &ServiceName,
        touched: Touched,
        before: Option<&Self>,
    ) -> Option<Self> {
        let config = &*input.config;
        let service = config.services.get(name)?;
        let mut piece = before.cloned().unwrap_or_default();
        if touched.clusters {
            let traffic = config.traffic.get(name).map(AsRef::as_ref);
            let clusters = names(service).map(|name| {
                let cluster = cluster::compile(&name, service, traffic, kind, domain);
                place(type_urls::CLUSTER, &name, &cluster, &piece.clusters)
            });
            piece.clusters = clusters.collect();
        }
        if touched.endpoints {
            let versions = names(service).zip(&service.versions);
            let assignments = versions.map(|(name, version)| {
                let assignment = endpoint::compile(&name, version, &input.endpoints);
                place(type_urls::ENDPOINT, &name, &assignment, &piece.assignments)
            });
            piece.assignments = assignments.collect();
        }
        if touched.entrance {
            piece.leads_to = leads_to(config, name);
            piece.enter(kind, config, service);
        }
        Some(piece)
    }

    /// Compiles the way to the versions.
    fn enter(&mut self, kind: NodeKind, config: &MeshConfig, service: &Service) {
        let known = std::mem::take(&mut self.entrance);
        self.host = Bytes::new();
        if kind == NodeKind::Sidecar
            && let Some(inbound) = inbound::compile(config, service)
        {
            self.entrance.push(place(type_urls::INBOUND, &inbound.service, &inbound, &known));
        }
        if service.protocol == Protocol::Tcp {
            // Only our sidecars can tell connections of several such services from each other where
            // nobody has given them addresses of their own.
            if kind == NodeKind::Sidecar
                && let Some(listener) = tcp::listener(config, service)
            {
                self.entrance.push(place(type_urls::LISTENER, &listener.name, &listener, &known));
            }
            return;
        }
        match kind {
            NodeKind::Grpc => {
                let routes = grpc::routes(config, service);
                self.entrance.push(place(type_urls::ROUTE, &routes.name, &routes, &known));
                let listeners = grpc::listeners(service);
                self.entrance.extend(
                    listeners.iter().map(|listener| {
                        place(type_urls::LISTENER, &listener.name, listener, &known)
                    }),
                );
            }
            kind if route::are_inline(kind) => {
                self.host = route::virtual_host(config, service, kind).encode_to_vec().into();
            }
            kind => {
                let host = route::virtual_host(config, service, kind);
                let name = xds_names::virtual_host_resource(&service.name);
                self.entrance.push(place(type_urls::VIRTUAL_HOST, &name, &host, &known));
            }
        }
    }

    /// The resources that belong to a part.
    pub fn resources(&self, part: Part) -> impl Iterator<Item = &Placed> {
        let entrance = if part == Part::Whole { self.entrance.as_slice() } else { &[] };
        self.clusters.iter().chain(&self.assignments).chain(entrance)
    }
}

/// Names of a service's clusters, the oldest version first.
fn names(service: &Service) -> impl Iterator<Item = String> {
    let versions = service.versions.iter();
    versions.map(|version| xds_names::cluster(&service.name, version.label.as_str()))
}

/// Encodes a resource, or takes the known one where it is the same.
fn place<M: Message>(type_url: &'static str, name: &str, message: &M, known: &[Placed]) -> Placed {
    let new = EncodedResource::new(type_url, name, message);
    let same = known.iter().find(|(url, known)| {
        *url == type_url && known.name() == new.name() && known.version() == new.version()
    });
    same.cloned().unwrap_or_else(|| (type_url, Arc::new(new)))
}

/// Other services that the routes of a service lead to.
pub(super) fn leads_to(config: &MeshConfig, name: &ServiceName) -> BTreeSet<ServiceName> {
    let rules = config.routes.get(name).into_iter().flat_map(|route| &route.rules);
    rules
        .flat_map(|rule| {
            let mirror = rule.filters.mirror.iter().map(|mirror| &mirror.service);
            rule.backends.iter().map(|backend| &backend.service).chain(mirror)
        })
        .filter(|&service| service != name)
        .cloned()
        .collect()
}
