//! Texts, and resources that remember where they were written.

use std::collections::BTreeMap;

use segue_proto::config::v1::Resource;

use super::fault::Place;

/// A text to be read: YAML or JSON, one or more documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceText {
    /// For messages, such as `chat.yaml`.
    pub name: String,
    pub content: String,
}

/// A resource that keeps the rules of its own kind, and where its parts were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    pub resource: Resource,
    pub source: SourceMap,
}

/// Where each field was written. Empty for resources that came parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMap {
    places: BTreeMap<String, Place>,
}

impl SourceMap {
    /// Whether the resource came from a text.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Place of a field such as `spec.rules[0].backendRefs[1].weight`, or of the nearest field
    /// around it that was written. The empty path is the whole resource.
    pub fn place(&self, field_path: &str) -> Option<&Place> {
        let mut path = field_path;
        loop {
            if let Some(place) = self.places.get(path) {
                return Some(place);
            }
            if path.is_empty() {
                return None;
            }
            path = path.rfind(['.', '[']).map_or("", |end| &path[..end]);
        }
    }

    pub(super) fn record(&mut self, field_path: &str, place: Place) {
        self.places.insert(field_path.to_owned(), place);
    }
}
