//! The record of one node.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use segue_control_plane_core::xds::Holding;
use segue_shared::ids::Revision;
use tokio::time::Instant;

use super::StreamKind;
use super::published::Published;
use super::record::{
    Acked, Delivery, Introduction, Load, Rejection, SidecarStatus, VersionTraffic,
};

/// Most versions of one node whose requests are counted.
const MAX_VERSIONS: usize = 1_000;
/// Most bytes that are kept of each word of an introduction.
const MAX_WORD_BYTES: usize = 256;

#[derive(Debug)]
pub(super) struct Node {
    introduction: Introduction,
    /// That of the introduction, shared with the counts.
    service: Arc<str>,
    since: SystemTime,
    /// When it connected.
    appeared: Instant,
    /// `None` while a stream is open.
    gone: Option<Instant>,
    xds: Option<u64>,
    report: Option<u64>,
    load: Option<u64>,
    /// Whether a report has come since the node last appeared.
    pub reports: bool,
    pub acked: Acked,
    pub delivery: Delivery,
    /// What its xDS stream asked for and holds; `None` where it has none.
    pub holding: Option<Holding>,
    /// In the order of service and version where loads are added up here.
    pub traffic: Vec<VersionTraffic>,
}

/// What is counted of a connected node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub service: Arc<str>,
    pub reports: bool,
    pub accepted: Revision,
    pub activated: Revision,
    /// How many resources it refuses.
    pub rejections: usize,
}

impl Node {
    pub fn unknown(now: Instant) -> Self {
        Self {
            introduction: Introduction::default(),
            service: "".into(),
            since: SystemTime::now(),
            appeared: now,
            gone: Some(now),
            xds: None,
            report: None,
            load: None,
            reports: false,
            acked: Acked::default(),
            delivery: Delivery::default(),
            holding: None,
            traffic: Vec::new(),
        }
    }

    /// A stream is opened, and says who it is.
    pub fn appear(&mut self, who: Introduction, kind: StreamKind, generation: u64, now: Instant) {
        if self.gone.take().is_some() {
            self.since = SystemTime::now();
            self.appeared = now;
            self.reports = false;
            self.acked = Acked::default();
            self.delivery = Delivery::default();
            self.holding = None;
        }
        self.introduction.learn(who);
        if *self.service != *self.introduction.service {
            self.service = self.introduction.service.as_str().into();
        }
        *self.stream(kind) = Some(generation);
    }

    /// A stream is closed. Whether it was the last.
    pub fn leave(&mut self, kind: StreamKind, now: Instant) -> bool {
        *self.stream(kind) = None;
        if kind == StreamKind::Xds {
            self.holding = None;
        }
        let gone = self.xds.is_none() && self.report.is_none() && self.load.is_none();
        if gone {
            self.gone = Some(now);
            self.since = SystemTime::now();
        }
        gone
    }

    pub fn gone(&self) -> Option<Instant> {
        self.gone
    }

    pub fn stream(&mut self, kind: StreamKind) -> &mut Option<u64> {
        match kind {
            StreamKind::Xds => &mut self.xds,
            StreamKind::Report => &mut self.report,
            StreamKind::Load => &mut self.load,
        }
    }

    /// Adds a load report to the totals. Answers how many versions found no place.
    pub fn load(&mut self, loads: Vec<Load>) -> usize {
        // A report speaks of all that has load: what it leaves out has nothing in flight.
        self.traffic.iter_mut().for_each(|total| total.in_flight = 0);
        let mut left_out = 0;
        for load in loads {
            let place = self.traffic.binary_search_by(|total| {
                (&total.service, &total.version).cmp(&(&load.service, &load.version))
            });
            let at = match place {
                Ok(at) => at,
                Err(_) if self.traffic.len() >= MAX_VERSIONS => {
                    left_out += 1;
                    continue;
                }
                Err(at) => {
                    let Load { service, version, .. } = load;
                    let new = VersionTraffic { service, version, ..VersionTraffic::default() };
                    self.traffic.insert(at, new);
                    at
                }
            };
            let total = &mut self.traffic[at];
            total.requests = total.requests.saturating_add(load.requests);
            total.failures = total.failures.saturating_add(load.failures);
            total.dropped = total.dropped.saturating_add(load.dropped);
            total.in_flight = total.in_flight.saturating_add(load.in_flight);
        }
        left_out
    }

    /// `None` while no stream is open.
    pub fn standing(&self) -> Option<Standing> {
        self.gone.is_none().then(|| Standing {
            service: Arc::clone(&self.service),
            reports: self.tells_activated(),
            accepted: self.accepted(),
            activated: self.delivery.activated,
            rejections: self.rejections().len(),
        })
    }

    /// A sidecar names the field that it refuses, so its own report is the better one.
    pub fn rejections(&self) -> &[Rejection] {
        if self.reports && !self.delivery.rejections.is_empty() {
            &self.delivery.rejections
        } else {
            &self.acked.rejections
        }
    }

    pub fn activated(&self) -> Revision {
        self.delivery.activated
    }

    pub fn service(&self) -> &Arc<str> {
        &self.service
    }

    /// The order in which nodes are listed.
    pub fn order(&self) -> (&str, &str, &str) {
        let who = &self.introduction;
        (&who.service, &who.version, &who.node_id)
    }

    /// Since when it is behind, while it is connected.
    pub fn behind_since(&self, published: &Published) -> Option<Instant> {
        let reached = if self.tells_activated() { self.activated() } else { self.accepted() };
        let since = published.newer_since(reached)?;
        self.gone.is_none().then(|| since.max(self.appeared))
    }

    pub fn status(
        &self,
        published: &Published,
        now: Instant,
        stale_after: Duration,
    ) -> SidecarStatus {
        let who = self.introduction.clone();
        let behind_for =
            self.behind_since(published).map(|since| now.saturating_duration_since(since));
        SidecarStatus {
            node_id: who.node_id,
            service: who.service,
            version: who.version,
            release: who.release,
            address: who.address,
            connected: self.gone.is_none(),
            since: self.since,
            received_revision: self.acked.received,
            accepted_revision: self.accepted(),
            activated_revision: self.activated(),
            rejections: self.rejections().to_vec(),
            traffic: self.traffic.clone(),
            reports: self.tells_activated(),
            stale: behind_for.is_some_and(|behind| behind > stale_after),
            behind_for,
        }
    }

    fn accepted(&self) -> Revision {
        if self.reports { self.delivery.accepted } else { self.acked.accepted }
    }

    fn tells_activated(&self) -> bool {
        self.reports || self.introduction.is_sidecar
    }
}

impl Introduction {
    /// Takes over what `new` says and keeps what it is silent about.
    fn learn(&mut self, new: Self) {
        let take = |old: &mut String, mut new: String| {
            if !new.is_empty() {
                new.truncate(new.floor_char_boundary(MAX_WORD_BYTES));
                *old = new;
            }
        };
        self.node_id = new.node_id;
        take(&mut self.service, new.service);
        take(&mut self.version, new.version);
        take(&mut self.release, new.release);
        take(&mut self.address, new.address);
        self.is_sidecar |= new.is_sidecar;
    }
}
