//! From text, or from messages of the API, to resources that keep the rules of their own kind.

use std::collections::BTreeMap;

use segue_proto::config::v1::Resource;

use super::fault::{Fault, Faults, Place};

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

/// Reads all documents of all files, or tells all that is wrong with them.
pub fn parse(files: &[SourceText]) -> Result<Vec<Parsed>, Faults> {
    let _ = files;
    Err(Faults(vec![Fault::default()]))
}

/// The rules of [`parse`] for a resource that came as a message.
pub fn parse_typed(resource: Resource) -> Result<Parsed, Faults> {
    Ok(Parsed { resource, source: SourceMap::default() })
}
