//! Who asks: nodes of one class get the same snapshot.

use std::net::{Ipv4Addr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::value::Kind;
use thiserror::Error;

/// How our sidecars name themselves in `Node.user_agent_name`.
pub const SIDECAR_USER_AGENT: &str = "segue-sidecar";

/// Key in `Node.metadata` under which a client asks for another address of the outbound listener.
pub const OUTBOUND_ADDRESS: &str = "outbound_address";

/// Where the outbound listener stands unless a node asks otherwise.
const DEFAULT_OUTBOUND: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 16001);

/// A class of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeClass {
    /// Our sidecars, which bind their listener by their own settings.
    Sidecar,
    /// Envoy, gRPC and every other client.
    Envoy { outbound_address: SocketAddr },
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
    /// The class of a node, as its first request tells it.
    pub fn of(node: &Node) -> Result<Self, NodeError> {
        if node.id.is_empty() {
            return Err(NodeError::Unnamed);
        }
        if node.user_agent_name == SIDECAR_USER_AGENT {
            return Ok(Self::Sidecar);
        }
        let asked = node.metadata.as_ref().and_then(|all| all.fields.get(OUTBOUND_ADDRESS));
        let outbound_address = match asked.and_then(|value| value.kind.as_ref()) {
            None => DEFAULT_OUTBOUND,
            Some(Kind::StringValue(text)) => text.parse().map_err(|_| NodeError::Address)?,
            Some(_) => return Err(NodeError::Address),
        };
        Ok(Self::Envoy { outbound_address })
    }

    /// Where nodes of the class have their outbound listener.
    pub fn outbound_address(self) -> SocketAddr {
        match self {
            Self::Sidecar => DEFAULT_OUTBOUND,
            Self::Envoy { outbound_address } => outbound_address,
        }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::{Struct, Value};

    use super::*;

    fn node(agent: &str, outbound: Option<Kind>) -> Node {
        let metadata = outbound.map(|kind| Struct {
            fields: [(OUTBOUND_ADDRESS.to_owned(), Value { kind: Some(kind) })].into(),
        });
        Node { id: "n".to_owned(), user_agent_name: agent.to_owned(), metadata, ..Node::default() }
    }

    #[test]
    fn an_envoy_gets_the_address_that_it_asks_for() {
        let asked = node("envoy", Some(Kind::StringValue("127.0.0.1:7000".to_owned())));
        let address = |node| NodeClass::of(node).map(NodeClass::outbound_address);
        assert_eq!(address(&asked), Ok(([127, 0, 0, 1], 7000).into()));
        assert_eq!(address(&node("envoy", None)), Ok(DEFAULT_OUTBOUND));
        assert_eq!(NodeClass::of(&node(SIDECAR_USER_AGENT, None)), Ok(NodeClass::Sidecar));
    }

    #[test]
    fn a_node_that_cannot_be_classed_says_why() {
        let nonsense = node("envoy", Some(Kind::StringValue("here".to_owned())));
        assert_eq!(NodeClass::of(&nonsense), Err(NodeError::Address));
        assert_eq!(
            NodeClass::of(&node("envoy", Some(Kind::BoolValue(true)))),
            Err(NodeError::Address)
        );
        assert_eq!(NodeClass::of(&Node::default()), Err(NodeError::Unnamed));
    }
}
