//! The open xDS streams of one node, and what they say together.
//!
//! A sidecar speaks by its newest stream alone: an older one belongs to a connection that is dead and
//! does not know it yet. Other nodes may share an id, such as replicas of an Envoy or the channels
//! of one gRPC process: then each stream speaks, and the node is as far as the last of them.

use std::borrow::Cow;
use std::mem;

use segue_control_plane_core::xds::Holding;
use segue_shared::ids::Revision;

use super::record::{Acked, Rejection};

/// Most refused resources of one node that are told.
const MAX_REJECTIONS: usize = 100;

/// See the module. Nearly every node has one stream, which costs no memory of its own.
#[derive(Debug, Default)]
pub(super) struct XdsStreams {
    /// What it says is kept when it is closed, until another one is opened.
    newest: XdsStream,
    /// Older ones that are open.
    older: Vec<XdsStream>,
}

#[derive(Debug, Default)]
struct XdsStream {
    /// `None` where it is closed.
    number: Option<u64>,
    acked: Acked,
    /// What its client asked for and holds.
    holding: Option<Holding>,
}

impl XdsStreams {
    /// A stream is opened. Where it speaks `alone`, older ones are not listened to any more.
    pub fn enter(&mut self, number: u64, alone: bool) {
        let new = XdsStream { number: Some(number), ..XdsStream::default() };
        let before = mem::replace(&mut self.newest, new);
        if alone {
            self.older = Vec::new();
        } else if before.number.is_some() {
            self.older.push(before);
        }
    }

    /// Whether what a stream ACKed and refuses is news.
    pub fn acked(&mut self, number: u64, acked: Acked) -> bool {
        let Some(stream) = self.open(number) else { return false };
        let news = stream.acked != acked;
        stream.acked = acked;
        news
    }

    pub fn holds(&mut self, number: u64, holding: Holding) {
        if let Some(stream) = self.open(number) {
            stream.holding = Some(holding);
        }
    }

    /// A stream is closed. Whether it was listened to.
    pub fn leave(&mut self, number: u64) -> bool {
        if self.newest.number == Some(number) {
            if let Some(older) = self.older.pop() {
                self.newest = older;
            } else {
                self.newest.number = None;
                self.newest.holding = None;
            }
        } else if let Some(at) = self.older.iter().position(|one| one.number == Some(number)) {
            self.older.remove(at);
        } else {
            return false;
        }
        if self.older.is_empty() {
            self.older = Vec::new();
        }
        true
    }

    pub fn is_open(&self) -> bool {
        self.newest.number.is_some()
    }

    /// The newest revision that all of them have been or are being sent.
    pub fn received(&self) -> Revision {
        self.least(|acked| acked.received)
    }

    /// The newest revision that all of them ACKed.
    pub fn accepted(&self) -> Revision {
        self.least(|acked| acked.accepted)
    }

    /// What any of them refuses.
    pub fn rejections(&self) -> Cow<'_, [Rejection]> {
        let newest = &self.newest.acked.rejections;
        if self.older.iter().all(|one| one.acked.rejections.is_empty()) {
            return Cow::Borrowed(newest);
        }
        let mut all = newest.clone();
        for one in self.older.iter().flat_map(|one| &one.acked.rejections) {
            if all.len() >= MAX_REJECTIONS {
                break;
            }
            let same = |known: &Rejection| {
                (&known.type_url, &known.resource) == (&one.type_url, &one.resource)
            };
            if !all.iter().any(same) {
                all.push(one.clone());
            }
        }
        Cow::Owned(all)
    }

    /// What the client of each holds, as far as it is known.
    pub fn holdings(&self) -> impl Iterator<Item = &Holding> {
        self.each().filter_map(|stream| stream.holding.as_ref())
    }

    fn least(&self, of: impl Fn(&Acked) -> Revision) -> Revision {
        self.each().map(|stream| of(&stream.acked)).min().unwrap_or_default()
    }

    fn each(&self) -> impl Iterator<Item = &XdsStream> {
        std::iter::once(&self.newest).chain(&self.older)
    }

    fn open(&mut self, number: u64) -> Option<&mut XdsStream> {
        let mut each = std::iter::once(&mut self.newest).chain(&mut self.older);
        each.find(|stream| stream.number == Some(number))
    }
}
