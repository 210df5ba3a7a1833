//! From text, or from messages of the API, to resources that keep the rules of their own kind.

use std::sync::Arc;

use segue_proto::config::v1::Resource;

use super::decode::decode;
use super::fault::{Fault, Faults};
use super::print::to_json;
use super::source::{Parsed, SourceMap, SourceText};
use super::yaml::{self, Mark, Node};

/// Reads all documents of all files, or tells all that is wrong with them. Namespace, `apiVersion`
/// and `kind` are filled in where they are absent and known. Empty documents are skipped.
pub fn parse(files: &[SourceText]) -> Result<Vec<Parsed>, Faults> {
    let draft = Draft::read(files);
    Faults::unless_none(draft.faults).map(|()| draft.parsed.into_iter().map(unshared).collect())
}

/// The rules of [`parse`] for a resource that came as a message.
pub fn parse_typed(resource: Resource) -> Result<Parsed, Faults> {
    let mut draft = Draft::default();
    draft.add_typed(&resource);
    Faults::unless_none(draft.faults)?;
    let parsed = draft.parsed.pop().map(unshared);
    Ok(parsed.unwrap_or(Parsed { resource, source: SourceMap::default() }))
}

/// Out of the draft, which was its only owner.
fn unshared(parsed: Arc<Parsed>) -> Parsed {
    Arc::unwrap_or_clone(parsed)
}

/// What was read, with and without faults.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Resources with faults are here as far as they could be read.
    pub parsed: Vec<Arc<Parsed>>,
    pub faults: Vec<Fault>,
    /// Whether resources are missing from `parsed` altogether.
    pub lost: bool,
}

impl Draft {
    /// Whether nothing is wrong with any resource alone.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty() && !self.lost
    }

    pub fn read(files: &[SourceText]) -> Self {
        let mut draft = Self::default();
        for file in files {
            let (documents, syntax) = yaml::read(&file.name, &file.content);
            let mut in_file: Vec<Fault> = Vec::new();
            draft.lost |= syntax.is_some();
            for document in documents {
                let parsed = decode(Some(&file.name), &document, &mut in_file);
                draft.lost |= parsed.is_none();
                draft.parsed.extend(parsed.map(Arc::new));
            }
            in_file.extend(syntax);
            in_file.sort_by(|a, b| a.place.cmp(&b.place));
            draft.faults.append(&mut in_file);
        }
        draft
    }

    pub fn add_typed(&mut self, resource: &Resource) {
        if resource.resource.is_none() {
            self.lost = true;
            self.faults.push(Fault {
                message: "the resource says nothing".to_owned(),
                hint: "set one of its kinds".to_owned(),
                ..Fault::default()
            });
            return;
        }
        // The same tree as from text, so that no rule has two forms.
        let parsed =
            decode(None, &Node::from_json(&to_json(resource), Mark::default()), &mut self.faults);
        self.lost |= parsed.is_none();
        self.parsed.extend(parsed.map(Arc::new));
    }
}
