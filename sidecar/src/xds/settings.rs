//! How the client finds the control plane, and what it says of itself.

use std::path::PathBuf;
use std::time::Duration;

/// How to reach the control plane, and who asks.
#[derive(Clone, Debug)]
pub struct XdsSettings {
    /// URL, `http://host:port`.
    pub control_plane: String,
    /// Unique among all sidecars.
    pub node_id: String,
    /// Service that this sidecar stands next to, `namespace/name`; the node's cluster in xDS.
    pub service: String,
    /// Version of it.
    pub version: String,
    pub protocol: XdsProtocol,
    /// Where the last good resources are kept. `None`: nowhere.
    pub data_dir: Option<PathBuf>,
    /// Time to connect to the control plane. Default 5 s.
    pub connect_timeout: Duration,
    /// Time for a first `SnapshotMark` after everything links. A control plane that sends none by
    /// then is taken for one that has none, and every linked change is activated. Default 2 s.
    pub mark_timeout: Duration,
}

impl XdsSettings {
    /// Settings with defaults for all but who and where.
    pub fn new(control_plane: impl Into<String>, node_id: impl Into<String>) -> Self {
        Self {
            control_plane: control_plane.into(),
            node_id: node_id.into(),
            service: String::new(),
            version: String::new(),
            protocol: XdsProtocol::default(),
            data_dir: None,
            connect_timeout: Duration::from_secs(5),
            mark_timeout: Duration::from_secs(2),
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
    /// Streams opened so far.
    pub streams: u64,
    /// Why the last stream ended.
    pub last_error: Option<String>,
    /// Whether a snapshot serves: from disk or from the control plane.
    pub has_snapshot: bool,
}
