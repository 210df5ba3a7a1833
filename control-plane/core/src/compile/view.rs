//! One snapshot, kept up to date piece by piece.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use segue_proto::extension::v1::SnapshotMark;
use segue_shared::ids::Revision;
use segue_shared::xds_names::{self, type_urls};
use xxhash_rust::xxh3::xxh3_64;

use super::piece::{Part, Piece, Placed};
use super::{NodeKind, base, route};
use crate::snapshot::{EncodedResource, Resources, Transitions, XdsSnapshot};

/// What a snapshot holds of one service, before and after.
pub(super) struct Change<'a> {
    pub before: Option<(&'a Piece, Part)>,
    pub after: Option<(&'a Piece, Part)>,
}

/// A snapshot, and what its digest is made of.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub snapshot: Arc<XdsSnapshot>,
    /// Of the digests of all resources but the mark, which is about them.
    sum: u64,
}

impl View {
    /// Without any service.
    pub fn new(kind: NodeKind, revision: Revision) -> Self {
        let mut draft = Draft { resources: BTreeMap::new(), sum: 0, edited: true };
        for placed in base::compile(kind) {
            draft.put(&placed);
        }
        draft.finish(revision)
    }

    /// The snapshot after changes; the same one where nothing is another. `hosts` are the encoded
    /// virtual hosts of all services that may be called then, by name; they are read only where one
    /// `RouteConfiguration` holds them and one of them changed.
    pub fn next<'a>(
        &self,
        kind: NodeKind,
        revision: Revision,
        changes: &[Change<'_>],
        hosts: impl Iterator<Item = &'a Bytes> + Clone,
    ) -> Self {
        let resources = self.snapshot.resources.clone();
        let mut draft = Draft { resources, sum: self.sum, edited: false };
        // A name that moves from one service to another is first taken away.
        for change in changes {
            draft.take_away(change);
        }
        let mut rerouted = false;
        for change in changes {
            for placed in change.after.iter().flat_map(|(piece, part)| piece.resources(*part)) {
                draft.put(placed);
            }
            rerouted |= host(change.before) != host(change.after);
        }
        if rerouted && route::are_inline(kind) {
            draft.put(&(type_urls::ROUTE, Arc::new(route::inline(hosts))));
        }
        if draft.edited || self.snapshot.revision != revision {
            draft.finish(revision)
        } else {
            self.clone()
        }
    }
}

/// The virtual host that a snapshot holds inline.
fn host(held: Option<(&Piece, Part)>) -> Option<&Bytes> {
    let (piece, part) = held?;
    (part == Part::Whole && !piece.host.is_empty()).then_some(&piece.host)
}

/// A snapshot in the making.
struct Draft {
    resources: BTreeMap<&'static str, Resources>,
    sum: u64,
    /// Whether anything is another than before.
    edited: bool,
}

impl Draft {
    fn put(&mut self, (type_url, resource): &Placed) {
        let of_type = self.resources.entry(type_url).or_default();
        let known = of_type.get(resource.name());
        if known.is_some_and(|known| Arc::ptr_eq(known, resource)) {
            return;
        }
        if let Some(known) = of_type.insert(Arc::clone(resource.name()), Arc::clone(resource)) {
            self.sum = self.sum.wrapping_sub(known.digest(type_url));
        }
        self.sum = self.sum.wrapping_add(resource.digest(type_url));
        self.edited = true;
    }

    fn take_away(&mut self, change: &Change<'_>) {
        let after: Vec<&Placed> =
            change.after.iter().flat_map(|(piece, part)| piece.resources(*part)).collect();
        for (type_url, gone) in
            change.before.iter().flat_map(|(piece, part)| piece.resources(*part))
        {
            let stays =
                after.iter().any(|(url, after)| url == type_url && after.name() == gone.name());
            let Some(of_type) = self.resources.get_mut(type_url).filter(|_| !stays) else {
                continue;
            };
            if let Some(known) = of_type.remove(gone.name()) {
                self.sum = self.sum.wrapping_sub(known.digest(type_url));
                self.edited = true;
            }
            if of_type.is_empty() {
                self.resources.remove(type_url);
            }
        }
    }

    /// Puts the mark, which is about all others.
    fn finish(mut self, revision: Revision) -> View {
        let parts = [self.sum, revision.0].map(u64::to_le_bytes);
        let digest = xxh3_64(parts.as_flattened());
        let mark = SnapshotMark { revision: revision.0, digest };
        let mark = EncodedResource::new(type_urls::SNAPSHOT_MARK, xds_names::SNAPSHOT_MARK, &mark);
        let marks = self.resources.entry(type_urls::SNAPSHOT_MARK).or_default();
        marks.insert(Arc::clone(mark.name()), Arc::new(mark));
        let snapshot = XdsSnapshot {
            revision,
            digest,
            resources: self.resources,
            transitions: Transitions::default(),
        };
        View { snapshot: Arc::new(snapshot), sum: self.sum }
    }
}
