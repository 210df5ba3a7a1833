//! What the admin endpoint looks at.

use std::sync::Arc;

use segue_shared::shutdown::DrainSignal;
use segue_shared::telemetry::LogLevel;
use tokio::sync::watch;

use crate::access_log::AccessLog;
use crate::activate::DeliveryState;
use crate::identity::Followed;
use crate::listener::ConnectionGate;
use crate::outcome::Counters;
use crate::overload::Overload;
use crate::snapshot_handle::SnapshotHandle;
use crate::tls::Mesh;
use crate::vitals::Vitals;
use crate::xds::{XdsStatus, XdsViews};

/// What the endpoint shows and changes.
pub struct Admin {
    pub node_id: String,
    pub snapshots: SnapshotHandle,
    pub counters: Arc<Counters>,
    pub vitals: Arc<Vitals>,
    pub gate: ConnectionGate,
    pub delivery: watch::Receiver<DeliveryState>,
    pub status: watch::Receiver<XdsStatus>,
    pub views: XdsViews,
    /// `POST /drain` begins it; readiness ends with it.
    pub drain: DrainSignal,
    /// `None` where the process' logs belong to someone else.
    pub log_level: Option<LogLevel>,
    pub access_log: Option<AccessLog>,
    pub overload: Overload,
    /// Who the sidecar is to others.
    pub mesh: Mesh,
    /// How that came about.
    pub renewals: Followed,
}
