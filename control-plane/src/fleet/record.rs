//! What is told of a node, and by it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use segue_control_plane_core::xds::Holding;
use segue_shared::ids::Revision;

/// One node as `segue.admin.v1.Sidecar` tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct SidecarStatus {
    pub node_id: String,
    /// Service that it stands next to, `namespace/name`; empty for other xDS clients.
    pub service: String,
    /// Version of that service.
    pub version: String,
    /// Release of Segue, or the client's own name.
    pub release: String,
    /// Where it is connected from; empty where unknown.
    pub address: String,
    /// Whether a stream is open.
    pub connected: bool,
    /// Since when it is connected, or gone.
    pub since: SystemTime,
    /// Newest revision that it has been or is being sent.
    pub received_revision: Revision,
    /// Newest revision that it ACKed whole.
    pub accepted_revision: Revision,
    /// Newest revision that its requests run on; none for clients without a report stream.
    pub activated_revision: Revision,
    /// What it refuses now.
    pub rejections: Vec<Rejection>,
    /// Requests that it sent to each version since it started.
    pub traffic: Vec<VersionTraffic>,
    /// Whether it tells its activated revision, or is one of our sidecars and about to.
    pub reports: bool,
    /// How long it has been connected and on an earlier revision than the newest published one.
    pub behind_for: Option<Duration>,
    /// Whether that is longer than a push takes.
    pub stale: bool,
}

/// One resource that a node refuses. Its last good version serves on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub type_url: String,
    pub resource: String,
    /// Path of the field; empty where unknown.
    pub field_path: String,
    /// Shared by all that is refused with one answer.
    pub reason: Arc<str>,
    /// The revision with which it came; none where unknown.
    pub revision: Revision,
}

/// A resource that a node refuses, or that this control plane holds back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Empty where this control plane holds it back.
    pub node_id: Arc<str>,
    /// Service that the node stands next to.
    pub service: Arc<str>,
    /// What the node runs on; what it ACKed where it cannot tell. Of what is held back: what nodes
    /// are offered instead.
    pub activated: Revision,
    pub rejection: Rejection,
}

/// Requests to one version, counted since the sidecar started; of a client that reports load,
/// since the control plane knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionTraffic {
    /// `namespace/name`.
    pub service: String,
    pub version: String,
    pub requests: u64,
    /// No answer, or 5xx.
    pub failures: u64,
    /// Not ended yet.
    pub in_flight: u64,
    /// Never sent: a limit of the client stood in the way.
    pub dropped: u64,
}

/// What a load report says of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// `namespace/name`.
    pub service: String,
    pub version: String,
    /// Since the report before.
    pub requests: u64,
    /// Since the report before.
    pub failures: u64,
    /// Since the report before.
    pub dropped: u64,
    /// At this moment.
    pub in_flight: u64,
}

/// How a node introduces itself on a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introduction {
    pub node_id: String,
    /// Empty where the stream does not say.
    pub service: String,
    /// Empty where the stream does not say.
    pub version: String,
    /// Empty where the stream does not say.
    pub release: String,
    /// Empty where unknown.
    pub address: String,
    /// Whether it is one of our sidecars: a report stream will follow, or is this one.
    pub is_sidecar: bool,
}

/// What the ACKs and NACKs of an xDS stream say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acked {
    /// What the client has been or is being sent.
    pub received: Revision,
    pub accepted: Revision,
    pub rejections: Vec<Rejection>,
}

/// What a sidecar reports about its revisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    pub accepted: Revision,
    pub activated: Revision,
    pub rejections: Vec<Rejection>,
}

/// A place in the order of nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub service: String,
    pub version: String,
    pub node_id: String,
}

/// The client of an xDS stream.
#[derive(Clone, Debug)]
pub struct Holder {
    pub node_id: Arc<str>,
    /// `namespace/name`; empty where unknown.
    pub service: Arc<str>,
    pub holding: Holding,
}

impl SidecarStatus {
    pub fn place(&self) -> Place {
        Place {
            service: self.service.clone(),
            version: self.version.clone(),
            node_id: self.node_id.clone(),
        }
    }
}
