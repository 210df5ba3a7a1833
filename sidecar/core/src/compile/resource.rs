//! One resource in, one table or one refusal out. The message is gone when this returns.

use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener as PbListener;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use prost::Message;
use segue_proto::extension::v1::{self as pb, SnapshotMark};
use segue_shared::ids::Revision;
use segue_shared::xds_names::{self, type_urls};

use super::cluster::{ClusterSpec, cluster};
use super::endpoint::{Assignment, assignment};
use super::inbound::{Inbound, inbound};
use super::listener::{Listener, listener};
use super::route::{HostResource, RouteConfig, host_resource, route_config};
use super::secret::{Authorities, authorities};
use crate::reject::{Fault, Reject};

/// A compiled resource.
#[derive(Debug)]
pub enum Compiled {
    Listener(Box<Listener>),
    Routes(Box<RouteConfig>),
    Host(Box<HostResource>),
    Cluster(Arc<ClusterSpec>),
    Assignment(Arc<Assignment>),
    Inbound(Inbound),
    Authorities(Authorities),
    Mark(Mark),
}

/// The end of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub revision: Revision,
    pub digest: u64,
}

impl Compiled {
    /// Name by which the resource is subscribed to.
    pub fn name(&self) -> &str {
        match self {
            Self::Listener(listener) => &listener.name,
            Self::Routes(routes) => &routes.name,
            Self::Host(host) => &host.name,
            Self::Cluster(cluster) => &cluster.name,
            Self::Assignment(assignment) => &assignment.name,
            Self::Inbound(inbound) => &inbound.service,
            Self::Authorities(authorities) => &authorities.name,
            Self::Mark(_) => xds_names::SNAPSHOT_MARK,
        }
    }
}

/// Compiles the bytes of a resource of a type. `name` as the envelope of delta xDS tells it; state of
/// the world has none, and the resource's own name counts.
pub fn compile(type_url: &str, name: Option<&str>, value: &[u8]) -> Result<Compiled, Reject> {
    let mut own_name = String::new();
    let compiled = match type_url {
        type_urls::LISTENER => decode(value).and_then(|message: PbListener| {
            own_name.clone_from(&message.name);
            listener(&message).map(|it| Compiled::Listener(Box::new(it)))
        }),
        type_urls::ROUTE => decode(value).and_then(|message: RouteConfiguration| {
            own_name.clone_from(&message.name);
            route_config(&message).map(|it| Compiled::Routes(Box::new(it)))
        }),
        type_urls::VIRTUAL_HOST => decode(value).and_then(|message: VirtualHost| {
            own_name.clone_from(&message.name);
            host_resource(name.unwrap_or(&own_name), &message)
                .map(|it| Compiled::Host(Box::new(it)))
        }),
        type_urls::CLUSTER => decode(value).and_then(|message: Cluster| {
            own_name.clone_from(&message.name);
            cluster(&message).map(|it| Compiled::Cluster(Arc::new(it)))
        }),
        type_urls::ENDPOINT => decode(value).and_then(|message: ClusterLoadAssignment| {
            own_name.clone_from(&message.cluster_name);
            assignment(&message).map(|it| Compiled::Assignment(Arc::new(it)))
        }),
        type_urls::INBOUND => decode(value).and_then(|message: pb::Inbound| {
            own_name.clone_from(&message.service);
            inbound(&message).map(Compiled::Inbound)
        }),
        type_urls::SECRET => decode(value).and_then(|message: Secret| {
            own_name.clone_from(&message.name);
            authorities(&message).map(Compiled::Authorities)
        }),
        type_urls::SNAPSHOT_MARK => decode(value).map(|message: SnapshotMark| {
            own_name.push_str(xds_names::SNAPSHOT_MARK);
            let revision = Revision(message.revision);
            Compiled::Mark(Mark { revision, digest: message.digest })
        }),
        _ => Err(Fault::at("", "this type was not asked for")),
    };
    let known = name.unwrap_or(&own_name);
    let compiled = compiled.and_then(|compiled| match name {
        Some(name) if name != compiled.name() => {
            Err(Fault::at("name", format!("is {:?}, was sent as {name:?}", compiled.name())))
        }
        _ if compiled.name().is_empty() => Err(Fault::at("name", "must be set")),
        _ => Ok(compiled),
    });
    compiled.map_err(|fault| fault.reject(type_url, known))
}

fn decode<M: Message + Default>(value: &[u8]) -> Result<M, Fault> {
    M::decode(value).map_err(|error| Fault::at("", format!("does not decode: {error}")))
}
