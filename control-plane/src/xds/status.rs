//! What an xDS stream tells the fleet about its client.

use std::net::SocketAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use segue_control_plane_core::compile::{NodeClass, NodeKind};
use segue_control_plane_core::xds::{Session, Variant};

use crate::fleet::{Acked, Introduction, Rejection};

/// Most refused resources of one client that are kept.
const MAX_REJECTIONS: usize = 100;

/// A node introduces itself. Which version of its service it is comes with the report stream.
pub(super) fn introduction(
    node: &Node,
    class: &NodeClass,
    address: Option<SocketAddr>,
) -> Introduction {
    let version = match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(version)) => version.clone(),
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => build
            .version
            .map(|at| format!("{}.{}.{}", at.major_number, at.minor_number, at.patch))
            .unwrap_or_default(),
        None => String::new(),
    };
    let is_sidecar = class.kind == NodeKind::Sidecar;
    let release = if is_sidecar {
        version
    } else {
        format!("{} {version}", node.user_agent_name).trim().to_owned()
    };
    Introduction {
        node_id: node.id.clone(),
        service: class.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        release,
        address: address.map(|at| at.to_string()).unwrap_or_default(),
        is_sidecar,
        ..Introduction::default()
    }
}

/// What the client ACKed and refuses.
pub(super) fn acked<V: Variant>(session: &Session<V>) -> Acked {
    let refusals = session.refusals().take(MAX_REJECTIONS);
    Acked {
        received: session.target_revision(),
        accepted: session.accepted(),
        rejections: refusals
            .map(|refusal| Rejection {
                type_url: refusal.type_url.to_string(),
                resource: refusal.resource.to_string(),
                field_path: String::new(),
                reason: Arc::clone(&refusal.reason),
                revision: refusal.revision,
            })
            .collect(),
    }
}
