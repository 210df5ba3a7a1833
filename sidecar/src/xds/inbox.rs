//! What came from the control plane, and when it makes a snapshot. Pure: no I/O, no clock; resources
//! go in, refusals and snapshots come out. It outlives streams, so that a new stream asks only for
//! what changed.

mod authorities;
mod intake;
mod lower;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use envoy_types::pb::google::protobuf::Any;
use imbl::OrdMap;
use segue_shared::ids::Revision;
use segue_shared::xds_names::{BUNDLE_SECRET, SNAPSHOT_MARK, type_urls};
use segue_sidecar_core::compile::{Compiled, Link, Linker, Mark};
use segue_sidecar_core::dns::{Query, Refresh};
use segue_sidecar_core::reject::Reject;
use segue_sidecar_core::snapshot::{CompiledSnapshot, Locality};

pub(crate) use self::lower::Lower;
use self::lower::LowerMarks;
use crate::activate::Rejection;

/// The types that we ask for, in the order in which we ask.
pub(crate) const TYPES: [&str; 8] = [
    type_urls::SECRET,
    type_urls::CLUSTER,
    type_urls::ENDPOINT,
    type_urls::LISTENER,
    type_urls::ROUTE,
    type_urls::VIRTUAL_HOST,
    type_urls::INBOUND,
    type_urls::SNAPSHOT_MARK,
];
/// The types that other resources name, so that what is asked for follows what comes.
pub(crate) const NAMED_TYPES: [&str; 3] =
    [type_urls::ENDPOINT, type_urls::ROUTE, type_urls::VIRTUAL_HOST];
/// The types that control planes of other make may end the stream for; of secrets, they have others
/// than ours.
pub(crate) const OWN_TYPES: [&str; 3] =
    [type_urls::SECRET, type_urls::INBOUND, type_urls::SNAPSHOT_MARK];
/// All resources of a type.
pub(crate) const WILDCARD: &str = "*";

/// A resource as it came.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    /// From the envelope; state of the world has none.
    pub name: Option<String>,
    pub version: String,
    pub resource: Any,
}

/// A good resource, as the disk and the next stream need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Empty where the protocol has no version a resource.
    pub version: Arc<str>,
    pub bytes: Arc<[u8]>,
    /// When it came; `None` where it came before this process began.
    pub came: Option<SystemTime>,
}

/// A refusal, and when.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub rejection: Rejection,
    pub at: SystemTime,
}

/// Refusals that still stand, by type and name of the resource.
pub(crate) type RefusedResources = BTreeMap<(&'static str, String), Refused>;

/// Good resources by type and name. A copy shares all that does not change.
pub(crate) type StoredResources = BTreeMap<&'static str, OrdMap<Arc<str>, Stored>>;

/// Whether the control plane marks the end of its snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marks {
    /// Not known yet.
    Unknown,
    /// It did before this process started.
    Remembered,
    /// It does: nothing is activated without a mark.
    Sent,
    /// It does not: what links is activated.
    None,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Peer {
    /// No control plane has answered yet.
    #[default]
    Unknown,
    /// Our own, which takes `*` for every type.
    Segue,
    /// Of other make.
    Foreign,
}

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Linking {
    /// Nothing changed, or the mark has not come yet.
    Idle,
    /// Named and not there.
    Waiting(Vec<String>),
    /// Everything links, but it is not known whether a mark is to come.
    Unmarked,
    /// To be activated.
    Ready(Box<Linked>),
}

/// A snapshot to be activated.
#[derive(Debug)]
pub(crate) struct Linked {
    pub snapshot: CompiledSnapshot,
    /// Whether no refusal stands: the revision counts as accepted.
    pub clean: bool,
    /// What some virtual hosts wait for, which stay as they were.
    pub held_by: Vec<String>,
}

/// Resources, refusals and the state of linking.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub(crate) struct Inbox {
    linker: Linker,
    peer: Peer,
    /// Whether responses leave out what is gone, instead of telling its removal.
    implied_removal: bool,
    stored: StoredResources,
    /// Virtual hosts refused for a domain that another one has, in case that one lets go of it.
    contested: BTreeMap<String, Stored>,
    rejected: RefusedResources,
    /// The time of the response that is taken.
    now: SystemTime,
    marks: Marks,
    mark: Option<Mark>,
    /// A mark came and its snapshot is not linked yet.
    mark_pending: bool,
    /// Something changed since the last link.
    changed: bool,
    /// A host name stands for other addresses than at the last link.
    readdressed: bool,
    /// Revision of the last snapshot that linked.
    linked_revision: Option<Revision>,
    /// Whether any has linked.
    linked: bool,
    /// What is waited for did not come in time.
    overdue: bool,
    lower: LowerMarks,
    /// Whether the authorities of the mesh come on the stream.
    asks_for_authorities: bool,
    /// Those that came last and were not yet taken, in PEM.
    authorities: Option<Box<[u8]>>,
    /// How many control planes there are to go to.
    control_planes: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            linker: Linker::default(),
            peer: Peer::default(),
            implied_removal: false,
            stored: StoredResources::new(),
            contested: BTreeMap::new(),
            rejected: RefusedResources::new(),
            now: SystemTime::UNIX_EPOCH,
            marks: Marks::Unknown,
            mark: None,
            mark_pending: false,
            changed: false,
            readdressed: false,
            linked_revision: None,
            linked: false,
            overdue: false,
            lower: LowerMarks::default(),
            asks_for_authorities: false,
            authorities: None,
            control_planes: 1,
        }
    }
}

impl Inbox {
    /// The next snapshot, where there is one.
    pub fn link(&mut self) -> Linking {
        let due = match self.marks {
            Marks::Sent => self.mark_pending,
            Marks::Unknown | Marks::Remembered | Marks::None => self.changed,
        };
        if !due {
            return self.readdress();
        }
        let revision = self.mark.filter(|_| self.marks == Marks::Sent).map(|mark| mark.revision);
        match self.linker.link(revision) {
            Link::Ready(_) if matches!(self.marks, Marks::Unknown | Marks::Remembered) => {
                Linking::Unmarked
            }
            Link::Ready(snapshot) => {
                self.changed = false;
                self.mark_pending = false;
                self.overdue = false;
                self.linked = true;
                self.linked_revision = snapshot.revision;
                self.ready(snapshot)
            }
            Link::Waiting { missing } => self.hold(missing),
        }
    }

    fn ready(&mut self, snapshot: CompiledSnapshot) -> Linking {
        self.readdressed = false;
        let clean = self.rejected.is_empty();
        Linking::Ready(Box::new(Linked { snapshot, clean, held_by: Vec::new() }))
    }

    /// What runs, with the addresses that its host names stand for now. No mark comes for that. What
    /// came meanwhile and waits for its mark takes them with it.
    fn readdress(&mut self) -> Linking {
        if !self.readdressed || self.changed || !self.linked {
            return Linking::Idle;
        }
        match self.linker.link(self.linked_revision) {
            Link::Ready(snapshot) => self.ready(snapshot),
            Link::Waiting { missing } => self.link_held(missing),
        }
    }

    /// Takes what a host name stands for now; `None`: it could not be looked up.
    pub fn resolved(&mut self, query: &Query, addresses: Option<Arc<[IpAddr]>>) {
        if self.linker.resolved(query, addresses) {
            self.readdressed = true;
            // What is held for another reason is linked again with what has come.
            self.changed |= self.mark_pending;
        }
    }

    /// Host names that clusters have, and how often to ask for each. What is known of others is
    /// forgotten.
    pub fn wanted_names(&mut self) -> BTreeMap<Query, Refresh> {
        let wanted = self.linker.wanted_names();
        self.linker.forget_names_but(&wanted);
        wanted
    }

    /// What waits for a refused resource, or for one that does not come in time, may wait for long:
    /// the virtual hosts that wait stay as they were, all else goes on. Before anything has linked,
    /// more may still be on its way, unless the mark or the time says otherwise.
    fn hold(&mut self, missing: Vec<String>) -> Linking {
        let for_long = self.overdue || !self.rejected.is_empty();
        let all_told = self.overdue || self.linked || self.marks == Marks::Sent;
        if !for_long || !all_told || !self.changed {
            return Linking::Waiting(missing);
        }
        self.changed = false;
        self.link_held(missing)
    }

    fn link_held(&mut self, missing: Vec<String>) -> Linking {
        self.readdressed = false;
        match self.linker.link_held(self.linked_revision) {
            Some(snapshot) => {
                self.linked = true;
                Linking::Ready(Box::new(Linked { snapshot, clean: false, held_by: missing }))
            }
            None => Linking::Waiting(missing),
        }
    }

    /// What is waited for does not come: from the next link until all is there, all else goes on.
    pub fn wait_no_longer(&mut self) {
        self.overdue = true;
        self.changed = true;
        self.linker.hosts_told();
    }

    pub fn is_overdue(&self) -> bool {
        self.overdue
    }

    /// Takes resources that were saved. They are linked by [`Self::link_restored`], once their host
    /// names were asked for.
    pub fn restore(&mut self, saved: Vec<(String, String, Stored)>) {
        let mut hosts = Vec::new();
        for (type_url, name, stored) in saved {
            let known = TYPES.into_iter().filter(|known| *known != type_urls::SECRET);
            let Some(type_url) = known.into_iter().find(|known| *known == type_url) else {
                continue;
            };
            let resource = Any { type_url: type_url.to_owned(), value: stored.bytes.to_vec() };
            let incoming =
                Incoming { name: Some(name), version: stored.version.to_string(), resource };
            let taken = match self.open(type_url, incoming, &mut HashSet::new()) {
                Ok(Some((Compiled::Host(host), stored))) => {
                    hosts.push((*host, Stored { came: None, ..stored }));
                    Ok(())
                }
                Ok(Some((compiled, stored))) => {
                    self.keep(type_url, compiled, Stored { came: None, ..stored })
                }
                Ok(None) => Ok(()),
                Err(reject) => Err(reject),
            };
            if let Err(reject) = taken {
                tracing::warn!(%reject, "a saved resource is not taken");
            }
        }
        for reject in self.keep_hosts(hosts, &HashSet::new()) {
            tracing::warn!(%reject, "a saved resource is not taken");
        }
        self.contested.clear();
        // All that there were, if any.
        self.linker.hosts_told();
        if self.marks == Marks::Sent {
            self.marks = Marks::Remembered;
        }
        self.rejected.clear();
        self.mark_pending = false;
        self.changed = false;
    }

    /// Links what was restored. A host name that is not answered yet has no address for now.
    pub fn link_restored(&mut self) -> Option<CompiledSnapshot> {
        for query in self.linker.wanted_names().keys() {
            self.linker.resolved(query, None);
        }
        self.readdressed = false;
        let revision = self.mark.map(|mark| mark.revision);
        match self.linker.link(revision) {
            Link::Ready(snapshot) => {
                self.linked_revision = revision;
                self.linked = true;
                Some(snapshot)
            }
            Link::Waiting { .. } => None,
        }
    }

    /// No mark came in time: this control plane sends none.
    pub fn expect_no_marks(&mut self) {
        self.marks = Marks::None;
    }

    pub fn marks(&self) -> Marks {
        self.marks
    }

    /// A response tells who is at the other end. One of other make than before knows nothing of the
    /// marks that came before.
    pub fn meet(&mut self, peer: Peer) {
        if self.peer == Peer::Segue && peer == Peer::Foreign {
            self.marks = Marks::Unknown;
            self.mark = None;
            self.mark_pending = false;
            self.stored.remove(type_urls::SNAPSHOT_MARK);
        }
        self.peer = peer;
    }

    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Where this sidecar is, and the service that it stands next to, before anything comes.
    pub fn stand_at(&mut self, locality: Locality, service: &str) {
        self.linker.at(locality, service);
    }

    /// How many control planes there are to go to; one until this is told.
    pub fn follow_one_of(&mut self, control_planes: usize) {
        self.control_planes = control_planes;
    }

    /// A mark of this stream that is not taken, because it is lower than what requests run on: the
    /// next control plane may offer more.
    pub fn lower_mark(&self) -> Option<Lower> {
        self.lower.refused()
    }

    /// The stream is over, or none came about.
    pub fn stream_ended(&mut self) {
        self.lower.stream_ended();
    }

    /// Whether responses of the stream that begins leave out what is gone.
    pub fn imply_removal(&mut self, implied: bool) {
        self.implied_removal = implied;
    }

    /// Responses that follow come at this time.
    pub fn tell_time(&mut self, now: SystemTime) {
        self.now = now;
    }

    /// Refusals that still stand, and when they were.
    pub fn refused(&self) -> RefusedResources {
        self.rejected.clone()
    }

    /// What is asked for by name and neither here nor refused.
    pub fn awaited(&self) -> Vec<(&'static str, String)> {
        let of_type = |type_url: &'static str| {
            let here = self.names(type_url);
            let wanted = self.wanted(type_url).unwrap_or_default();
            // Virtual hosts are asked for by a part of their names.
            let listed = type_url != type_urls::VIRTUAL_HOST && !wanted.contains(WILDCARD);
            let awaited = wanted.into_iter().filter(move |name| listed && !here.contains(name));
            awaited.map(move |name| (type_url, name))
        };
        NAMED_TYPES.into_iter().flat_map(of_type).collect()
    }

    /// All good resources, for the disk. Secrets live in memory alone.
    pub fn stored(&self) -> StoredResources {
        let mut stored = self.stored.clone();
        stored.remove(type_urls::SECRET);
        stored
    }

    /// Refused resources that still stand.
    pub fn rejections(&self) -> Vec<Rejection> {
        self.rejected.values().map(|refused| refused.rejection.clone()).collect()
    }

    /// Names of a type that came and were not removed, refused ones included.
    pub fn names(&self, type_url: &str) -> BTreeSet<String> {
        let refused = self.rejected.keys().filter(|(of, _)| *of == type_url);
        let good = self.stored.get(type_url).into_iter().flat_map(OrdMap::keys);
        refused.map(|(_, name)| name.clone()).chain(good.map(ToString::to_string)).collect()
    }

    /// Names to ask for, of which [`WILDCARD`] is one. `None`: all, by the older rule that a first
    /// request without names means all, which every control plane knows.
    ///
    /// Virtual hosts are asked for by the name of their route configuration, as Envoy does: all whose
    /// names begin with it and a slash.
    pub fn wanted(&self, type_url: &str) -> Option<BTreeSet<String>> {
        let all = || BTreeSet::from([WILDCARD.to_owned()]);
        match (type_url, self.peer) {
            (type_urls::ENDPOINT | type_urls::VIRTUAL_HOST, Peer::Segue) => Some(all()),
            (type_urls::ENDPOINT, _) => Some(self.linker.wanted_assignments()),
            (type_urls::VIRTUAL_HOST, _) => Some(self.linker.wanted_hosts()),
            (type_urls::ROUTE, _) => Some(self.linker.wanted_routes()),
            (type_urls::INBOUND, _) => Some(self.linker.wanted_inbound()),
            (type_urls::SECRET, _) => {
                let authorities = self.asks_for_authorities.then(|| BUNDLE_SECRET.to_owned());
                Some(authorities.into_iter().collect())
            }
            (type_urls::SNAPSHOT_MARK, _) => Some(BTreeSet::from([SNAPSHOT_MARK.to_owned()])),
            _ => None,
        }
    }

    /// Versions of the resources of a type, for the first request of a stream. One that is refused
    /// has a version that no control plane gives: what there is of it now comes again, or its removal
    /// does, and the refusal ends even where the good version of here is the newest once more.
    pub fn versions(&self, type_url: &str) -> HashMap<String, String> {
        let stored = self.stored.get(type_url).into_iter().flatten();
        let mut versions: HashMap<String, String> = stored
            .filter(|(_, stored)| !stored.version.is_empty())
            .map(|(name, stored)| (name.to_string(), stored.version.to_string()))
            .collect();
        let refused = self.rejected.keys().filter(|(of, _)| *of == type_url);
        versions.extend(refused.map(|(_, name)| (name.clone(), String::new())));
        versions
    }
}

/// Whether a subscription to these names brings the resource.
pub(crate) fn covers(type_url: &str, names: &BTreeSet<String>, name: &str) -> bool {
    if names.contains(WILDCARD) || names.contains(name) {
        return true;
    }
    let belongs = |configuration: &String| {
        name.strip_prefix(configuration.as_str()).is_some_and(|rest| rest.starts_with('/'))
    };
    type_url == type_urls::VIRTUAL_HOST && names.iter().any(belongs)
}

/// The text of a NACK: one line for each refused resource, the first 64 of them.
pub(crate) fn nack_message(rejects: &[Reject]) -> String {
    const MOST: usize = 64;
    let mut lines: Vec<String> = rejects.iter().take(MOST).map(ToString::to_string).collect();
    if rejects.len() > MOST {
        lines.push(format!("and {} more", rejects.len() - MOST));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests;
