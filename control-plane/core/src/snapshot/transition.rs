//! Ways from one snapshot to another, each found once for all clients that go it.
//!
//! Ten thousand clients of a class mostly hold the same and get the same. What leads them on is
//! compared, listed and written as bytes by the first of them; the others take what it found.

use std::sync::{Arc, Mutex, PoisonError};

use imbl::ordmap::DiffItem;

use super::batch::Batch;
use super::{EncodedResource, Resources};
use crate::cost::look_at;

/// Most ways that are remembered with a snapshot; the oldest are found anew where they are needed.
const MAX_KNOWN: usize = 32;

/// What leads from all resources of a type at one moment to all at a later one.
#[derive(Debug)]
pub struct Transition {
    /// New and changed resources.
    pub makes: Arc<Batch>,
    /// Their names.
    pub names: Arc<[Arc<str>]>,
    /// Resources that are gone.
    pub breaks: Resources,
}

/// The ways that were found. A copy remembers none.
#[derive(Debug, Default)]
pub struct Transitions {
    /// The oldest first.
    known: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    from: Resources,
    to: Resources,
    transition: Arc<Transition>,
}

impl Clone for Transitions {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Transitions {
    /// What leads from one to the other.
    pub fn between(&self, from: &Resources, to: &Resources) -> Arc<Transition> {
        // Whoever comes while it is being found waits, instead of finding it too.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.iter().find(|it| same(&it.from, from) && same(&it.to, to)) {
            return Arc::clone(&known.transition);
        }
        let transition = Arc::new(Transition::between(from, to));
        if known.len() >= MAX_KNOWN {
            known.remove(0);
        }
        let (from, to) = (from.clone(), to.clone());
        known.push(Known { from, to, transition: Arc::clone(&transition) });
        transition
    }
}

impl Transition {
    fn between(from: &Resources, to: &Resources) -> Self {
        let mut makes: Vec<Arc<EncodedResource>> = Vec::new();
        let mut breaks = Resources::new();
        for item in from.diff(to) {
            look_at(1);
            match item {
                DiffItem::Add(_, new) => makes.push(Arc::clone(new)),
                DiffItem::Update { old: (_, old), new: (_, new) } => {
                    if old.version() != new.version() {
                        makes.push(Arc::clone(new));
                    }
                }
                DiffItem::Remove(name, old) => {
                    breaks.insert(Arc::clone(name), Arc::clone(old));
                }
            }
        }
        let names = makes.iter().map(|resource| Arc::clone(resource.name())).collect();
        Self { makes: Batch::shared(makes), names, breaks }
    }
}

/// Whether two maps are one, which is quick to see and enough.
fn same(a: &Resources, b: &Resources) -> bool {
    a.ptr_eq(b) || a.is_empty() && b.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(all: &[(&str, &str)]) -> Resources {
        let resource = |(name, version): &(&str, &str)| {
            let resource = EncodedResource::with_version("t", name, version, b"");
            (Arc::clone(resource.name()), Arc::new(resource))
        };
        all.iter().map(resource).collect()
    }

    #[test]
    fn a_way_says_what_is_new_and_what_is_gone() {
        let before = resources(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let after = resources(&[("a", "1"), ("b", "2"), ("d", "1")]);
        let way = Transitions::default().between(&before, &after);
        assert_eq!(format!("{:?}", &**way.makes), "[b@2, d@1]");
        assert_eq!(&*way.names, &["b".into(), "d".into()]);
        assert_eq!(format!("{:?}", way.breaks), "{\"c\": c@1}");
    }

    #[test]
    fn a_way_is_found_once_and_few_are_remembered() {
        let ways = Transitions::default();
        let (before, after) = (resources(&[("a", "1")]), resources(&[("a", "2")]));
        let first = ways.between(&before, &after);
        assert!(Arc::ptr_eq(&first, &ways.between(&before, &after)));
        assert!(!Arc::ptr_eq(&first, &ways.between(&after, &before)), "it has a direction");
        assert!(!Arc::ptr_eq(&first, &ways.clone().between(&before, &after)));
        for _ in 0..MAX_KNOWN {
            ways.between(&resources(&[("b", "1")]), &after);
        }
        assert!(!Arc::ptr_eq(&first, &ways.between(&before, &after)));
        assert_eq!(ways.known.lock().unwrap().len(), MAX_KNOWN);
    }
}
