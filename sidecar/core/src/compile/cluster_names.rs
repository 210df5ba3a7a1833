//! Names of clusters as places in the table of a snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use crate::snapshot::ClusterIndex;

/// Gives each cluster that a route names its place.
#[derive(Default)]
pub(crate) struct ClusterNames {
    names: Vec<Arc<str>>,
    places: HashMap<Arc<str>, ClusterIndex>,
}

impl ClusterNames {
    /// The place of a name, a new one if it has none.
    pub fn place(&mut self, name: &str) -> ClusterIndex {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let place = ClusterIndex(self.names.len() as u32);
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.places.insert(name, place);
        place
    }

    /// All names in the order of their places.
    pub fn into_names(self) -> Vec<Arc<str>> {
        self.names
    }
}
