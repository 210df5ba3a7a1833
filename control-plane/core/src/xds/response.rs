//! What a session says, in the words of both variants.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;

use crate::snapshot::Batch;

/// Client feature: resources may come with a time to live.
const SUPPORTS_TTL: &str = "xds.config.supports-resource-ttl";
/// Client feature: a state-of-the-world response may hold `Resource` messages.
const RESOURCE_IN_SOTW: &str = "xds.config.resource-in-sotw";

/// What a client can do beyond the rules that all of them follow. The default is: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// How long resources live without a heartbeat; `None` for ever.
    pub ttl: Option<Duration>,
    /// Whether it takes `Resource` messages in state-of-the-world responses, without which they
    /// cannot have a time to live.
    pub resource_in_sotw: bool,
    /// Whether it may never ask for clusters or for routes: an Envoy may have its own, and gRPC's
    /// clients ask for what their calls need.
    pub asks_in_part: bool,
}

impl Client {
    /// What a node says that it can do. It gets `ttl` only where it says that it knows what that
    /// is.
    pub fn of(node: &Node, ttl: Option<Duration>) -> Self {
        let can = |feature| node.client_features.iter().any(|known| known == feature);
        Self {
            ttl: ttl.filter(|_| can(SUPPORTS_TTL)),
            resource_in_sotw: can(RESOURCE_IN_SOTW),
            asks_in_part: false,
        }
    }
}

/// One response. [`super::Message`] writes it as its variant's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub type_url: Arc<str>,
    /// A number that counts the responses of a stream.
    pub nonce: String,
    /// Delta: the revision. State of the world: a digest of the resources, so that equal states
    /// have equal versions.
    pub version_info: String,
    pub resources: Arc<Batch>,
    /// Names that the client is to forget, or that do not exist. Only in delta responses.
    pub removed: Vec<Arc<str>>,
    /// What is the matter with names that were asked for.
    pub errors: Vec<ResourceError>,
    /// How long the resources live; `None` for ever.
    pub ttl: Option<Duration>,
    /// Whether it only prolongs the life of resources, which go without their bodies.
    pub is_heartbeat: bool,
}

/// Why a name that was asked for has no resource (xRFC TP3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceError {
    pub name: Arc<str>,
    /// A gRPC status code.
    pub code: i32,
    pub message: Arc<str>,
}
