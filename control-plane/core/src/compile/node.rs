//! Who asks: nodes of one class get the same snapshot.

use std::net::{Ipv4Addr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::value::Kind;
use segue_shared::ids::ServiceName;
use thiserror::Error;

/// How our sidecars name themselves in `Node.user_agent_name`.
pub const SIDECAR_USER_AGENT: &str = "segue-sidecar";

/// Key in `Node.metadata` under which a client asks for another address of the outbound listener.
pub const OUTBOUND_ADDRESS: &str = "outbound_address";

/// Where the outbound listener stands unless a node asks otherwise.
const DEFAULT_OUTBOUND: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 16001);

/// How gRPC's own xDS clients name themselves: `gRPC C-core 58.0.0`, `gRPC Node.js …`, `grpc-go`.
const GRPC_USER_AGENTS: [&str; 2] = ["gRPC", "grpc"];

/// What a node can do, by the software that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeKind {
    /// Our sidecars, which bind their listener by their own settings.
    Sidecar,
    /// Envoy and every client that names itself otherwise.
    Envoy { outbound_address: SocketAddr },
    /// Applications that call services through gRPC's own xDS client, without a proxy.
    Grpc,
}

/// Nodes that get the same snapshots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeClass {
    pub kind: NodeKind,
    /// The service that the node is an instance of. What it depends on is its scope. `None` where
    /// the node names none.
    pub service: Option<ServiceName>,
}

/// A node that cannot be classed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NodeError {
    #[error("the first request of a stream must carry `node` with a non-empty `id`")]
    Unnamed,
    #[error("node.metadata.{OUTBOUND_ADDRESS} must be text such as \"127.0.0.1:16001\"")]
    Address,
}

impl NodeClass {
    /// The class of a node, as its first request tells it. `node.cluster` names the service, as
    /// `namespace/name` or `name`; other software may have other words there, which name no service.
    pub fn of(node: &Node) -> Result<Self, NodeError> {
        if node.id.is_empty() {
            return Err(NodeError::Unnamed);
        }
        Ok(Self { kind: NodeKind::of(node)?, service: node.cluster.parse().ok() })
    }
}

impl NodeKind {
    fn of(node: &Node) -> Result<Self, NodeError> {
        if node.user_agent_name == SIDECAR_USER_AGENT {
            return Ok(Self::Sidecar);
        }
        if GRPC_USER_AGENTS.iter().any(|agent| node.user_agent_name.starts_with(agent)) {
            return Ok(Self::Grpc);
        }
        let asked = node.metadata.as_ref().and_then(|all| all.fields.get(OUTBOUND_ADDRESS));
        let outbound_address = match asked.and_then(|value| value.kind.as_ref()) {
            None => DEFAULT_OUTBOUND,
            Some(Kind::StringValue(text)) => text.parse().map_err(|_| NodeError::Address)?,
            Some(_) => return Err(NodeError::Address),
        };
        Ok(Self::Envoy { outbound_address })
    }

    /// Nodes of the kind, as people call them.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecars",
            Self::Envoy { .. } => "Envoys",
            Self::Grpc => "gRPC clients",
        }
    }

    /// Where nodes of the kind have their outbound listener.
    pub fn outbound_address(self) -> SocketAddr {
        match self {
            Self::Sidecar | Self::Grpc => DEFAULT_OUTBOUND,
            Self::Envoy { outbound_address } => outbound_address,
        }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::{Struct, Value};

    use super::*;

    fn node(agent: &str, cluster: &str, outbound: Option<Kind>) -> Node {
        let metadata = outbound.map(|kind| Struct {
            fields: [(OUTBOUND_ADDRESS.to_owned(), Value { kind: Some(kind) })].into(),
        });
        Node {
            id: "n".to_owned(),
            cluster: cluster.to_owned(),
            user_agent_name: agent.to_owned(),
            metadata,
            ..Node::default()
        }
    }

    fn kind(agent: &str, outbound: Option<Kind>) -> Result<NodeKind, NodeError> {
        NodeClass::of(&node(agent, "chat", outbound)).map(|class| class.kind)
    }

    #[test]
    fn the_user_agent_tells_the_kind() {
        assert_eq!(kind(SIDECAR_USER_AGENT, None), Ok(NodeKind::Sidecar));
        for grpc in ["gRPC C-core", "gRPC Node.js", "gRPC Java", "grpc-go"] {
            assert_eq!(kind(grpc, None), Ok(NodeKind::Grpc), "{grpc}");
        }
        for other in ["envoy", "", "something"] {
            let envoy = NodeKind::Envoy { outbound_address: DEFAULT_OUTBOUND };
            assert_eq!(kind(other, None), Ok(envoy), "{other}");
        }
    }

    #[test]
    fn an_envoy_gets_the_address_that_it_asks_for() {
        let asked = Some(Kind::StringValue("127.0.0.1:7000".to_owned()));
        let outbound_address = ([127, 0, 0, 1], 7000).into();
        assert_eq!(kind("envoy", asked), Ok(NodeKind::Envoy { outbound_address }));
    }

    #[test]
    fn the_cluster_of_a_node_names_its_service() {
        let service = |cluster: &str| NodeClass::of(&node("envoy", cluster, None)).unwrap().service;
        assert_eq!(service("chat"), Some(ServiceName::new("default", "chat")));
        assert_eq!(service("shop/cart"), Some(ServiceName::new("shop", "cart")));
        for foreign in ["", "My_Cluster", "a/b/c"] {
            assert_eq!(service(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_node_that_cannot_be_classed_says_why() {
        let nonsense = Some(Kind::StringValue("here".to_owned()));
        assert_eq!(kind("envoy", nonsense), Err(NodeError::Address));
        assert_eq!(kind("envoy", Some(Kind::BoolValue(true))), Err(NodeError::Address));
        assert_eq!(NodeClass::of(&Node::default()), Err(NodeError::Unnamed));
    }
}
