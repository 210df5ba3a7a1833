//! How the client finds the control plane, and what it says of itself.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use segue_sidecar_core::snapshot::Locality;

use crate::control_plane::ControlPlanes;
use crate::dns::{DnsSettings, NamesStatus};

/// How to reach the control plane, and who asks.
#[derive(Clone, Debug)]
pub struct XdsSettings {
    pub control_planes: ControlPlanes,
    /// Unique among all sidecars.
    pub node_id: String,
    /// Service that this sidecar stands next to, `namespace/name`; the node's cluster in xDS.
    pub service: String,
    /// Version of it.
    pub version: String,
    /// Where it runs; unknown by default.
    pub locality: Locality,
    pub protocol: XdsProtocol,
    /// Where the last good resources are kept. `None`: nowhere.
    pub data_dir: Option<PathBuf>,
    /// Time for what a resource names to come. Then all goes on without: what names it stays as it
    /// was. Default 15 s.
    pub resource_timeout: Duration,
    /// Time for a first `SnapshotMark` after everything links. A control plane that sends none by
    /// then is taken for one that has none, and every linked change is activated. Default 2 s.
    pub mark_timeout: Duration,
    /// Who is asked for the host names of clusters.
    pub dns: DnsSettings,
    /// Whether the authorities of the mesh come from the control plane.
    pub takes_authorities: bool,
}

impl XdsSettings {
    /// Settings with defaults for all but who and where.
    pub fn new(control_plane: impl Into<String>, node_id: impl Into<String>) -> Self {
        Self {
            control_planes: ControlPlanes::at([control_plane]),
            node_id: node_id.into(),
            service: String::new(),
            version: String::new(),
            locality: Locality::default(),
            protocol: XdsProtocol::default(),
            data_dir: None,
            resource_timeout: Duration::from_secs(15),
            mark_timeout: Duration::from_secs(2),
            dns: DnsSettings::default(),
            takes_authorities: false,
        }
    }
}

/// Variant of xDS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdsProtocol {
    /// Only what changed.
    #[default]
    Delta,
    /// State of the world, for control planes without delta.
    Sotw,
}

/// State of the connection to the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XdsStatus {
    /// Whether a stream is open and was answered.
    pub connected: bool,
    /// URL of the control plane that is followed, or tried.
    pub control_plane: String,
    /// Streams opened so far.
    pub streams: u64,
    /// Resources refused so far.
    pub rejections: u64,
    /// References that did not come within the resource timeout, so far.
    pub resource_timeouts: u64,
    /// Streams that ended because a control plane was behind what runs here, so far.
    pub lower_marks: u64,
    /// When the last response came.
    pub last_update: Option<Instant>,
    /// Why the last stream ended.
    pub last_error: Option<String>,
    /// What is done for the host names of clusters.
    pub dns: NamesStatus,
    /// Whether a snapshot serves: from disk or from the control plane.
    pub has_snapshot: bool,
}
