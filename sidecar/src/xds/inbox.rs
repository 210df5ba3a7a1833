//! What came from the control plane, and when it makes a snapshot. Pure: no I/O, no clock; resources
//! go in, refusals and snapshots come out. It outlives streams, so that a new stream asks only for
//! what changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use segue_shared::ids::Revision;
use segue_shared::xds_names::type_urls;
use segue_sidecar_core::compile::{Compiled, Link, Linker, Mark, compile};
use segue_sidecar_core::reject::Reject;
use segue_sidecar_core::snapshot::CompiledSnapshot;

use crate::activate::Rejection;

/// The types that we ask for, in the order in which we ask.
pub(crate) const TYPES: [&str; 5] = [
    type_urls::CLUSTER,
    type_urls::ENDPOINT,
    type_urls::LISTENER,
    type_urls::ROUTE,
    type_urls::SNAPSHOT_MARK,
];

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
    pub version: String,
    pub bytes: Arc<[u8]>,
}

/// Good resources by type and name.
pub(crate) type StoredResources = BTreeMap<&'static str, BTreeMap<String, Stored>>;

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
    /// What newer routes wait for, where these are the routes before them.
    pub held_by: Vec<String>,
}

/// Resources, refusals and the state of linking.
#[derive(Debug)]
pub(crate) struct Inbox {
    linker: Linker,
    stored: StoredResources,
    rejected: BTreeMap<(&'static str, String), Rejection>,
    marks: Marks,
    mark: Option<Mark>,
    /// A mark came and its snapshot is not linked yet.
    mark_pending: bool,
    /// Something changed since the last link.
    changed: bool,
    /// Revision of the last snapshot that linked.
    linked_revision: Option<Revision>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            linker: Linker::default(),
            stored: StoredResources::new(),
            rejected: BTreeMap::new(),
            marks: Marks::Unknown,
            mark: None,
            mark_pending: false,
            changed: false,
            linked_revision: None,
        }
    }
}

impl Inbox {
    /// Takes the resources of one response; gives those that were refused. Good ones are taken all
    /// the same, and the last good version of a refused one stays.
    pub fn receive(
        &mut self,
        type_url: &str,
        resources: Vec<Incoming>,
        removed: &[String],
    ) -> Vec<Reject> {
        let Some(type_url) = TYPES.into_iter().find(|known| *known == type_url) else {
            return vec![refusal(type_url, "", "this type was not asked for")];
        };
        let mut rejects = Vec::new();
        let mut seen = HashSet::new();
        for incoming in resources {
            match self.take(type_url, incoming, &mut seen) {
                Ok(()) => {}
                Err(reject) => {
                    let rejection = Rejection { reject: reject.clone(), revision: None };
                    self.rejected.insert((type_url, reject.resource.clone()), rejection);
                    rejects.push(reject);
                }
            }
        }
        for name in removed {
            self.forget(type_url, name);
        }
        if matches!(type_url, type_urls::CLUSTER | type_urls::LISTENER) {
            self.prune();
        }
        rejects
    }

    /// The next snapshot, where there is one.
    pub fn link(&mut self) -> Linking {
        let due = match self.marks {
            Marks::Sent => self.mark_pending,
            Marks::Unknown | Marks::Remembered | Marks::None => self.changed,
        };
        if !due {
            return Linking::Idle;
        }
        let revision = self.mark.filter(|_| self.marks == Marks::Sent).map(|mark| mark.revision);
        match self.linker.link(revision) {
            Link::Ready(_) if matches!(self.marks, Marks::Unknown | Marks::Remembered) => {
                Linking::Unmarked
            }
            Link::Ready(snapshot) => {
                self.changed = false;
                self.mark_pending = false;
                let clean = self.rejected.is_empty();
                self.linked_revision = snapshot.revision;
                Linking::Ready(Box::new(Linked { snapshot, clean, held_by: Vec::new() }))
            }
            Link::Waiting { missing } => self.hold(missing),
        }
    }

    /// What waits for a refused resource may wait for long: the routes before go on, with the newest
    /// endpoints.
    fn hold(&mut self, missing: Vec<String>) -> Linking {
        if self.rejected.is_empty() || !self.changed {
            return Linking::Waiting(missing);
        }
        self.changed = false;
        match self.linker.link_last_routes(self.linked_revision) {
            Some(snapshot) => {
                Linking::Ready(Box::new(Linked { snapshot, clean: false, held_by: missing }))
            }
            None => Linking::Waiting(missing),
        }
    }

    /// Takes resources that were saved, and links them at once.
    pub fn restore(&mut self, saved: Vec<(String, String, Stored)>) -> Option<CompiledSnapshot> {
        for (type_url, name, stored) in saved {
            let resource = Any { type_url: type_url.clone(), value: stored.bytes.to_vec() };
            let version = stored.version;
            let incoming = Incoming { name: Some(name), version, resource };
            if let Some(reject) = self.receive_saved(&type_url, incoming) {
                tracing::warn!(%reject, "a saved resource is not taken");
            }
        }
        let revision = self.mark.map(|mark| mark.revision);
        if self.marks == Marks::Sent {
            self.marks = Marks::Remembered;
        }
        self.rejected.clear();
        self.mark_pending = false;
        self.changed = false;
        match self.linker.link(revision) {
            Link::Ready(snapshot) => {
                self.linked_revision = revision;
                Some(snapshot)
            }
            Link::Waiting { .. } => None,
        }
    }

    /// As [`Inbox::receive`] of one, without dropping what nothing names yet.
    fn receive_saved(&mut self, type_url: &str, incoming: Incoming) -> Option<Reject> {
        let type_url = TYPES.into_iter().find(|known| *known == type_url)?;
        self.take_unasked(type_url, incoming, &mut HashSet::new()).err()
    }

    /// No mark came in time: this control plane sends none.
    pub fn expect_no_marks(&mut self) {
        self.marks = Marks::None;
    }

    pub fn marks(&self) -> Marks {
        self.marks
    }

    /// All good resources, for the disk.
    pub fn stored(&self) -> StoredResources {
        self.stored.clone()
    }

    /// Refused resources that still stand.
    pub fn rejections(&self) -> Vec<Rejection> {
        self.rejected.values().cloned().collect()
    }

    /// Names of a type that came and were not removed, refused ones included.
    pub fn names(&self, type_url: &str) -> BTreeSet<String> {
        let refused = self.rejected.keys().filter(|(of, _)| *of == type_url);
        let good = self.stored.get(type_url).into_iter().flat_map(BTreeMap::keys);
        refused.map(|(_, name)| name).chain(good).cloned().collect()
    }

    /// Names to ask for by name. `None`: all (a wildcard).
    pub fn wanted(&self, type_url: &str) -> Option<BTreeSet<String>> {
        match type_url {
            type_urls::ROUTE => Some(self.linker.wanted_routes()),
            type_urls::ENDPOINT => Some(self.linker.wanted_assignments()),
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
            .map(|(name, stored)| (name.clone(), stored.version.clone()))
            .collect();
        let refused = self.rejected.keys().filter(|(of, _)| *of == type_url);
        versions.extend(refused.map(|(_, name)| (name.clone(), String::new())));
        versions
    }

    fn take(
        &mut self,
        type_url: &'static str,
        incoming: Incoming,
        seen: &mut HashSet<String>,
    ) -> Result<(), Reject> {
        // An answer that crossed our unsubscription.
        let unasked =
            |name: &String| self.wanted(type_url).is_some_and(|wanted| !wanted.contains(name));
        if incoming.name.as_ref().is_some_and(unasked) {
            return Ok(());
        }
        self.take_unasked(type_url, incoming, seen)
    }

    fn take_unasked(
        &mut self,
        type_url: &'static str,
        incoming: Incoming,
        seen: &mut HashSet<String>,
    ) -> Result<(), Reject> {
        let Incoming { name, version, resource } = incoming;
        let told = name.as_deref();
        if resource.type_url != type_url {
            let reason = format!("is of type {:?}", resource.type_url);
            return Err(refusal(type_url, told.unwrap_or_default(), &reason));
        }
        let compiled = compile(type_url, told, &resource.value)?;
        let name = compiled.name().to_owned();
        if !seen.insert(name.clone()) {
            return Err(refusal(type_url, &name, "comes twice in one response"));
        }
        self.rejected.remove(&(type_url, name.clone()));
        let of_type = self.stored.entry(type_url).or_default();
        if let Some(before) = of_type.get_mut(&name)
            && *before.bytes == *resource.value
        {
            before.version = version;
            return Ok(());
        }
        of_type.insert(name, Stored { version, bytes: resource.value.into() });
        if let Compiled::Mark(mark) = compiled {
            self.mark = Some(mark);
            self.marks = Marks::Sent;
            self.mark_pending = true;
            for rejection in self.rejected.values_mut() {
                rejection.revision.get_or_insert(mark.revision);
            }
        } else {
            self.linker.put(compiled);
        }
        self.changed = true;
        Ok(())
    }

    fn forget(&mut self, type_url: &'static str, name: &str) {
        self.rejected.remove(&(type_url, name.to_owned()));
        let stored = self.stored.get_mut(type_url).and_then(|of_type| of_type.remove(name));
        if stored.is_some() {
            self.linker.remove(type_url, name);
            self.changed = true;
        }
    }

    /// Drops what nothing names any more: its removal is implied.
    fn prune(&mut self) {
        for type_url in [type_urls::ROUTE, type_urls::ENDPOINT] {
            let wanted = self.wanted(type_url).unwrap_or_default();
            for name in self.names(type_url) {
                if !wanted.contains(&name) {
                    self.forget(type_url, &name);
                }
            }
        }
    }
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

fn refusal(type_url: &str, resource: &str, reason: &str) -> Reject {
    Reject {
        type_url: type_url.to_owned(),
        resource: resource.to_owned(),
        field_path: String::new(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
