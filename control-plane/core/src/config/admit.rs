//! A batch on top of what the store has: read, merged and checked in one go, so that one answer
//! tells every fault, those of single fields and those between resources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use segue_proto::config::v1::Resource;
use segue_shared::ids::Revision;

use super::check::check_all;
use super::declaration::Declaration;
use super::fault::{Fault, Faults};
use super::key::{ResourceKey, key};
use super::parse::Draft;
use super::source::{Parsed, SourceText};

/// What a batch is put on top of.
#[derive(Clone, Debug)]
pub enum Base {
    /// The usual case.
    Checked(Declaration),
    /// Resources of a store that do not pass the checks of this release. A batch may mend them.
    Unchecked(Vec<Resource>),
}

/// A batch as it was read, with what is wrong with each of its resources alone.
#[derive(Debug)]
pub struct Batch<'a> {
    draft: Draft,
    files: &'a [SourceText],
}

/// A batch without faults.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The resources of the batch, in the order given, files first.
    pub batch: Vec<Resource>,
    /// The whole configuration with the batch.
    pub next: Declaration,
}

impl Declaration {
    /// Reads and checks a whole configuration, as it stands in a store.
    pub fn read(
        revision: Revision,
        resources: impl IntoIterator<Item = Resource>,
    ) -> Result<Self, Faults> {
        let all = Base::Unchecked(resources.into_iter().collect());
        all.admit(revision, &[], &[], &[]).map(|admitted| admitted.next)
    }

    /// Reads a batch and checks it on top of this configuration, whose namesakes it replaces and
    /// from which `deletes` are removed, except those that are also in the batch. `revision` is
    /// the one that the result gets. Costs what the batch touches; a batch with faults costs a
    /// check of the whole, so that one answer tells all of them.
    pub fn admit(
        &self,
        revision: Revision,
        files: &[SourceText],
        typed: &[Resource],
        deletes: &[ResourceKey],
    ) -> Result<Admitted, Faults> {
        Base::Checked(self.clone()).admit(revision, files, typed, deletes)
    }
}

impl<'a> Batch<'a> {
    pub fn read(files: &'a [SourceText], typed: &[Resource]) -> Self {
        let mut draft = Draft::read(files);
        for resource in typed {
            draft.add_typed(resource);
        }
        Self { draft, files }
    }

    /// Which resources it names, as far as that can be told, also of those with faults.
    pub fn keys(&self) -> impl Iterator<Item = ResourceKey> {
        let named = self.draft.parsed.iter().map(|parsed| key(&parsed.resource));
        named.filter(|key| !key.name.is_empty())
    }
}

impl Base {
    /// See [`Declaration::admit`]. On top of what is not checked, everything is read.
    pub fn admit(
        &self,
        revision: Revision,
        files: &[SourceText],
        typed: &[Resource],
        deletes: &[ResourceKey],
    ) -> Result<Admitted, Faults> {
        self.admit_batch(revision, Batch::read(files, typed), deletes)
    }

    /// The same for a batch that was read already.
    pub fn admit_batch(
        &self,
        revision: Revision,
        batch: Batch<'_>,
        deletes: &[ResourceKey],
    ) -> Result<Admitted, Faults> {
        let Batch { mut draft, files } = batch;
        let batch: Vec<Resource> =
            draft.parsed.iter().map(|parsed| parsed.resource.clone()).collect();
        let kept = match self {
            Self::Checked(declaration) => {
                let next = draft
                    .is_good()
                    .then(|| declaration.next(revision, &draft.parsed, deletes))
                    .flatten();
                if let Some(next) = next {
                    return Ok(Admitted { batch, next });
                }
                let gone: BTreeSet<ResourceKey> =
                    batch.iter().map(key).chain(deletes.iter().cloned()).collect();
                let kept = declaration.resources().filter(|(key, _)| !gone.contains(*key));
                kept.map(|(_, parsed)| Arc::clone(parsed)).collect()
            }
            Self::Unchecked(resources) => {
                let gone: BTreeSet<ResourceKey> =
                    batch.iter().map(key).chain(deletes.iter().cloned()).collect();
                let read = draft.parsed.len();
                for resource in resources.iter().filter(|resource| !gone.contains(&key(resource))) {
                    draft.add_typed(resource);
                }
                let next = draft
                    .is_good()
                    .then(|| Declaration::default().next(revision, &draft.parsed, &[]))
                    .flatten();
                if let Some(next) = next {
                    return Ok(Admitted { batch, next });
                }
                draft.parsed.split_off(read)
            }
        };
        Err(all_faults(draft, kept, files))
    }
}

/// All that is wrong with a batch on top of the resources that stay.
fn all_faults(draft: Draft, kept: Vec<Arc<Parsed>>, files: &[SourceText]) -> Faults {
    let mut faults = draft.faults;
    // A resource that could not be read at all would be missed by all that refer to it.
    if !draft.lost {
        let mut all = draft.parsed;
        all.extend(kept);
        let (_, between) = check_all(Revision::NONE, &all);
        let news: Vec<Fault> =
            between.into_iter().filter(|fault| !is_consequence(fault, &faults)).collect();
        faults.extend(news);
        sort_by_file(&mut faults, files);
    }
    match Faults::unless_none(faults) {
        Err(faults) => faults,
        // Both checks keep the same rules, so this does not happen; what was refused stays so.
        Ok(()) => Faults(vec![Fault {
            message: "the batch contradicts what is declared, and no rule says how".to_owned(),
            hint: "apply its resources one by one, and report this as a bug of Segue".to_owned(),
            ..Fault::default()
        }]),
    }
}
/// Whether a fault comes from a field that was told of already, in it or around it: what could not
/// be read is absent for those who check. So is the name of a resource that has none.
fn is_consequence(fault: &Fault, told: &[Fault]) -> bool {
    if fault.resource.ends_with('/') && !told.is_empty() {
        return true;
    }
    let covers = |outer: &str, inner: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    told.iter().any(|other| {
        other.resource == fault.resource
            && !other.field_path.is_empty()
            && (covers(&other.field_path, &fault.field_path)
                || covers(&fault.field_path, &other.field_path))
    })
}

fn sort_by_file(faults: &mut [Fault], files: &[SourceText]) {
    let order: BTreeMap<&str, usize> =
        files.iter().enumerate().map(|(i, file)| (file.name.as_str(), i)).collect();
    faults.sort_by_key(|fault| {
        let place = fault.place.as_ref();
        let file = place.and_then(|place| order.get(place.file.as_str()).copied());
        (
            file.unwrap_or(usize::MAX),
            place.map_or((u32::MAX, u32::MAX), |place| (place.line, place.column)),
        )
    });
}
