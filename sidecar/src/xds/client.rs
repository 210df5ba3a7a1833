//! The client of the control plane as the process sees it.

use std::time::Duration;

use segue_shared::ids::Revision;
use segue_shared::shutdown::DrainSignal;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::follower::{Follower, Told};
use super::settings::{XdsSettings, XdsStatus};
use super::view::XdsViews;
use crate::activate::{DeliveryState, Warm};
use crate::snapshot_handle::SnapshotHandle;

/// What others see of the client.
pub struct XdsClient {
    /// For the report stream.
    pub delivery: watch::Receiver<DeliveryState>,
    /// For readiness and the admin endpoint.
    pub status: watch::Receiver<XdsStatus>,
    /// For the admin endpoint: every resource and where it stands.
    pub views: XdsViews,
    /// The place of the control plane that is followed, or tried, in the list of them.
    pub following: watch::Receiver<usize>,
}

/// Activates the last good snapshot on disk, where there is one. The control plane is followed by
/// [`Follower::run`].
pub async fn restore<W: Warm>(
    settings: XdsSettings,
    handle: SnapshotHandle,
    warm: W,
) -> (XdsClient, Follower<W>) {
    let (delivery_sender, delivery) = watch::channel(DeliveryState::default());
    let (status_sender, status) = watch::channel(XdsStatus::default());
    let first = settings.control_planes.first(&settings.node_id);
    let (following_sender, following) = watch::channel(first);
    let told =
        Told { delivery: delivery_sender, status: status_sender, following: following_sender };
    let (views, questions) = XdsViews::new();
    let mut follower = Follower::new(settings, handle, warm, told, questions);
    follower.restore().await;
    (XdsClient { delivery, status, views, following }, follower)
}

/// The same, and begins to follow on the current runtime. The task ends after the drain signal, with
/// the last good resources on disk.
pub async fn spawn(
    settings: XdsSettings,
    handle: SnapshotHandle,
    warm: impl Warm,
    drain: DrainSignal,
) -> (XdsClient, JoinHandle<()>) {
    let (client, follower) = restore(settings, handle, warm).await;
    (client, tokio::spawn(follower.run(drain)))
}

impl XdsClient {
    /// The revision that requests run on; 0: none.
    pub fn revision(&self) -> Revision {
        self.delivery.borrow().activated_revision
    }

    /// The same at any later moment.
    pub fn revisions(&self) -> impl Fn() -> u64 + Send + use<> {
        let delivery = self.delivery.clone();
        move || delivery.borrow().activated_revision.0
    }

    /// Waits until requests run on a revision, at most for a time.
    pub async fn reaches(&mut self, revision: Revision, patience: Duration) {
        let reached = self.delivery.wait_for(|state| state.activated_revision >= revision);
        if tokio::time::timeout(patience, reached).await.is_err() {
            tracing::warn!(%revision, ?patience, "not reached in time");
        }
    }
}
