//! The record of one node.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use segue_control_plane_core::xds::Holding;
use segue_shared::ids::Revision;
use tokio::time::Instant;

use super::StreamKind;
use super::loads::Loads;
use super::published::Published;
use super::record::{
    Acked, Delivery, Introduction, Load, Rejection, SidecarStatus, VersionTraffic,
};
use super::streams::XdsStreams;

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
    xds: XdsStreams,
    /// The newest one of a sidecar.
    report: Option<u64>,
    loads: Loads,
    /// Whether a report has come since the node last appeared.
    reports: bool,
    delivery: Delivery,
    /// In the order of service and version where loads are added up here.
    traffic: Vec<VersionTraffic>,
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

impl Standing {
    /// With whom the node is counted: its service, and what it has reached.
    pub fn crowd(&self) -> (Arc<str>, Revision) {
        let reached = if self.reports { self.activated } else { self.accepted };
        (Arc::clone(&self.service), reached)
    }
}

impl Node {
    pub fn unknown(now: Instant) -> Self {
        Self {
            introduction: Introduction::default(),
            service: "".into(),
            since: SystemTime::now(),
            appeared: now,
            gone: Some(now),
            xds: XdsStreams::default(),
            report: None,
            loads: Loads::default(),
            reports: false,
            delivery: Delivery::default(),
            traffic: Vec::new(),
        }
    }

    /// A stream is opened, and says who it is.
    pub fn appear(&mut self, who: Introduction, kind: StreamKind, stream: u64, now: Instant) {
        if self.gone.take().is_some() {
            // Another one may go by this id now.
            self.introduction = Introduction::default();
            self.since = SystemTime::now();
            self.appeared = now;
            self.reports = false;
            self.delivery = Delivery::default();
        }
        self.introduction.learn(who);
        if *self.service != *self.introduction.service {
            self.service = self.introduction.service.as_str().into();
        }
        match kind {
            StreamKind::Xds => self.xds.enter(stream, self.introduction.is_sidecar),
            StreamKind::Report => self.report = Some(stream),
            StreamKind::Load => self.loads.enter(stream),
        }
    }

    /// A stream is closed. Whether that makes a difference.
    pub fn leave(&mut self, stream: u64, now: Instant) -> bool {
        if self.gone.is_some() {
            return false;
        }
        let was_heard = self.xds.leave(stream);
        self.loads.leave(stream, &mut self.traffic);
        if self.report == Some(stream) {
            self.report = None;
        }
        let gone = !self.xds.is_open() && self.report.is_none() && !self.loads.are_open();
        if gone {
            self.gone = Some(now);
            self.since = SystemTime::now();
        }
        gone || was_heard
    }

    /// What an xDS stream ACKed and refuses. Whether it is news.
    pub fn acked(&mut self, stream: u64, acked: Acked) -> bool {
        self.xds.acked(stream, acked)
    }

    /// What the client of an xDS stream asked for and holds.
    pub fn holds(&mut self, stream: u64, holding: Holding) {
        self.xds.holds(stream, holding);
    }

    /// A report about revisions. Whether it is news.
    pub fn delivered(&mut self, stream: u64, delivery: Delivery) -> bool {
        if self.report != Some(stream) {
            return false;
        }
        let news = !self.reports || self.delivery != delivery;
        self.reports = true;
        self.delivery = delivery;
        news
    }

    /// A report of totals.
    pub fn counted(&mut self, stream: u64, traffic: Vec<VersionTraffic>) {
        if self.report == Some(stream) {
            self.traffic = traffic;
        }
    }

    /// A load report. Answers how many versions of it found no place.
    pub fn loaded(&mut self, stream: u64, loads: Vec<Load>) -> usize {
        self.loads.add(stream, loads, &mut self.traffic)
    }

    pub fn gone(&self) -> Option<Instant> {
        self.gone
    }

    /// `None` while no stream is open that tells of revisions. One that only reports its load here
    /// may have its configuration from another control plane.
    pub fn standing(&self) -> Option<Standing> {
        let tells = self.tells_activated() || self.xds.is_open();
        (tells && self.gone.is_none()).then(|| Standing {
            service: Arc::clone(&self.service),
            reports: self.tells_activated(),
            accepted: self.accepted(),
            activated: self.delivery.activated,
            rejections: self.rejections().len(),
        })
    }

    /// A sidecar names the field that it refuses, so its own report is the better one.
    pub fn rejections(&self) -> Cow<'_, [Rejection]> {
        if self.reports && !self.delivery.rejections.is_empty() {
            Cow::Borrowed(&self.delivery.rejections)
        } else {
            self.xds.rejections()
        }
    }

    /// The revision that its requests run on, or that it ACKed where it cannot tell.
    pub fn reached(&self) -> Revision {
        if self.tells_activated() { self.delivery.activated } else { self.accepted() }
    }

    /// What the clients of its xDS streams hold.
    pub fn holdings(&self) -> impl Iterator<Item = &Holding> {
        self.xds.holdings()
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
        let since = published.newer_since(self.reached())?;
        self.standing().map(|_| since.max(self.appeared))
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
            received_revision: self.xds.received(),
            accepted_revision: self.accepted(),
            activated_revision: self.delivery.activated,
            rejections: self.rejections().into_owned(),
            traffic: self.traffic.clone(),
            reports: self.tells_activated(),
            stale: behind_for.is_some_and(|behind| behind > stale_after),
            behind_for,
        }
    }

    fn accepted(&self) -> Revision {
        if self.reports { self.delivery.accepted } else { self.xds.accepted() }
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
