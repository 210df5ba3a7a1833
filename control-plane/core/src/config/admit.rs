//! A batch on top of what the store has: read, merged and checked in one go, so that one answer
//! tells every fault, those of single fields and those between resources.

use std::collections::BTreeMap;

use segue_proto::config::v1::Resource;
use segue_shared::ids::Revision;

use super::check::check_all;
use super::fault::{Fault, Faults};
use super::key::{ResourceKey, key};
use super::mesh::MeshConfig;
use super::parse::Draft;
use super::source::{Parsed, SourceMap, SourceText};

/// A batch without faults.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// The resources of the batch, in the order given, files first.
    pub batch: Vec<Resource>,
    /// The whole configuration with the batch.
    pub mesh: MeshConfig,
}

/// Reads a batch and checks it on top of `base`, the resources of the store, whose namesakes it
/// replaces. `revision` is the one that the batch would get.
pub fn admit(
    revision: Revision,
    base: &[Resource],
    files: &[SourceText],
    typed: &[Resource],
) -> Result<Admitted, Faults> {
    let mut draft = Draft::read(files);
    for resource in typed {
        draft.add_typed(resource);
    }
    let batch: Vec<Resource> = draft.parsed.iter().map(|parsed| parsed.resource.clone()).collect();

    let mut kept: BTreeMap<ResourceKey, &Resource> =
        base.iter().map(|resource| (key(resource), resource)).collect();
    for resource in &batch {
        kept.remove(&key(resource));
    }
    let mut all = draft.parsed;
    all.extend(
        kept.into_values()
            .map(|resource| Parsed { resource: resource.clone(), source: SourceMap::default() }),
    );

    // A resource that could not be read at all would be missed by all that refer to it.
    if draft.lost {
        Faults::unless_none(draft.faults)?;
        return Ok(Admitted { batch, mesh: MeshConfig::default() });
    }
    let (mesh, between) = check_all(revision, &all);
    let mut faults = draft.faults;
    let news: Vec<Fault> =
        between.into_iter().filter(|fault| !is_consequence(fault, &faults)).collect();
    faults.extend(news);
    sort_by_file(&mut faults, files);
    Faults::unless_none(faults).map(|()| Admitted { batch, mesh })
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
