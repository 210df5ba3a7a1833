//! Places of clusters in the tables of snapshots: stable for as long as a route leads there, so that
//! a virtual host that did not change need not be compiled again.

use std::collections::HashMap;
use std::sync::Arc;

use crate::snapshot::ClusterIndex;

/// The place of one name. It is nobody else's while a virtual host holds it.
#[derive(Debug)]
pub(super) struct Place {
    pub name: Arc<str>,
    pub index: ClusterIndex,
}

/// All places.
#[derive(Debug, Default)]
pub(super) struct Places {
    by_name: HashMap<Arc<str>, Arc<Place>>,
    free: Vec<ClusterIndex>,
    given: u32,
}

impl Places {
    /// The place of a name, a free or a new one if it has none.
    pub fn hold(&mut self, name: &Arc<str>) -> Arc<Place> {
        if let Some(place) = self.by_name.get(name) {
            return Arc::clone(place);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.given += 1;
            ClusterIndex(self.given - 1)
        });
        let place = Arc::new(Place { name: Arc::clone(name), index });
        self.by_name.insert(Arc::clone(name), Arc::clone(&place));
        place
    }

    /// Frees the places that no virtual host holds any more.
    pub fn sweep(&mut self) {
        let free = &mut self.free;
        self.by_name.retain(|_, place| {
            let held = Arc::strong_count(place) > 1;
            if !held {
                free.push(place.index);
            }
            held
        });
    }

    /// Number of places, free ones included: every index is below it.
    pub fn len(&self) -> usize {
        self.given as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_again_only_when_nobody_holds_it() {
        let mut places = Places::default();
        let [a, b, c] = ["a", "b", "c"].map(|name| -> Arc<str> { name.into() });
        let (held, dropped) = (places.hold(&a), places.hold(&b).index);
        places.sweep();
        assert_eq!(places.hold(&a).index, held.index);
        assert_eq!(places.hold(&c).index, dropped);
        assert_eq!(places.len(), 2);
    }
}
