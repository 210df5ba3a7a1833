//! What a refusal is about: one service, one resource as it is declared, or all.

use std::collections::BTreeMap;

use segue_control_plane_core::compile::domains;
use segue_control_plane_core::config::{Kind, MeshConfig, ResourceKey};
use segue_shared::ids::{Revision, ServiceName};
use segue_shared::xds_names::{self, OUTBOUND_LISTENER, type_urls};

use crate::fleet::Rejection;
use crate::store::StoredResource;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// What the services share.
    All,
    Service(ServiceName),
    Declared(ResourceKey),
}

/// Reads what refusals are about.
pub struct Abouts<'a> {
    config: &'a MeshConfig,
    /// Services by the names under which callers know them; read where it is needed.
    domains: Option<BTreeMap<String, ServiceName>>,
}

impl<'a> Abouts<'a> {
    pub fn new(config: &'a MeshConfig) -> Self {
        Self { config, domains: None }
    }

    /// `None` where it is about nothing that is declared now.
    pub fn of(&mut self, rejection: &Rejection) -> Option<About> {
        let name = rejection.resource.as_str();
        if let Some(kind) = Kind::parse(&rejection.type_url) {
            let (namespace, name) = name.split_once('/')?;
            return Some(About::Declared(ResourceKey::new(kind, namespace, name)));
        }
        let service = match rejection.type_url.as_str() {
            type_urls::CLUSTER | type_urls::ENDPOINT => {
                xds_names::parse_cluster(name).map(|(service, _)| service)
            }
            type_urls::VIRTUAL_HOST => xds_names::parse_virtual_host_resource(name),
            type_urls::ROUTE => xds_names::parse_grpc_routes(name),
            type_urls::LISTENER if name != OUTBOUND_LISTENER => Some(self.called(name)?),
            _ => None,
        };
        Some(service.map_or(About::All, About::Service))
    }

    /// The service that gRPC clients call through a listener.
    fn called(&mut self, listener: &str) -> Option<ServiceName> {
        let known = self.domains.get_or_insert_with(|| {
            let services = self.config.services.values();
            let pairs = services.flat_map(|service| {
                domains(service).into_iter().map(|domain| (domain, service.name.clone()))
            });
            pairs.collect()
        });
        known.get(xds_names::parse_grpc_listener(listener)).cloned()
    }
}

impl About {
    /// Whether a refusal by those who have reached a revision keeps a resource, which is of this
    /// service, from requests. A node that refuses what came with a later revision runs on with
    /// this one, once it has come so far.
    pub fn concerns(
        &self,
        rejection: &Rejection,
        reached: Revision,
        stored: &StoredResource,
        service: &ServiceName,
    ) -> bool {
        let of_it = match self {
            Self::Declared(key) => return *key == stored.key,
            Self::Service(name) => name == service,
            Self::All => true,
        };
        let late = stored.revision >= rejection.revision || reached < stored.revision;
        of_it && late && becomes(stored.key.kind, &rejection.type_url)
    }
}

/// Whether a resource of a kind becomes resources of a type. All that is declared becomes what has
/// no type.
fn becomes(kind: Kind, type_url: &str) -> bool {
    let types: &[&str] = match kind {
        Kind::Service => return true,
        Kind::TrafficPolicy => &[type_urls::CLUSTER],
        Kind::Route | Kind::AccessPolicy | Kind::ContextPolicy | Kind::Rollout => {
            &[type_urls::LISTENER, type_urls::ROUTE, type_urls::VIRTUAL_HOST]
        }
    };
    type_url.is_empty() || types.contains(&type_url)
}
