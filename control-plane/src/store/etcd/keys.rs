//! Where things lie in etcd. Revisions are written with twenty digits, so that keys sort as numbers.

use segue_shared::ids::Revision;

use super::Id;
use super::api::Range;

/// The keys of one store; all begin with its prefix.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// A slash at the end of `prefix` makes no difference.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.trim_end_matches('/').to_owned() }
    }

    /// The head and the records: all that a follower watches.
    pub fn log(&self) -> Range {
        (format!("{}/log/", self.prefix), format!("{}/log0", self.prefix))
    }

    /// The newest revision. Whoever commits compares it, and replaces it.
    pub fn head(&self) -> String {
        format!("{}/log/head", self.prefix)
    }

    /// The record of the commits that lead to `revision`.
    pub fn record(&self, revision: Revision) -> String {
        format!("{}/log/revisions/{:020}", self.prefix, revision.0)
    }

    /// Records of what was committed from `first` on.
    pub fn records_from(&self, first: Revision) -> Range {
        (self.record(first), format!("{}/log/revisions0", self.prefix))
    }

    /// Records of what was committed up to `last`.
    pub fn records_to(&self, last: Revision) -> Range {
        (self.record(Revision::NONE), self.record(last.next()))
    }

    /// A whole configuration at `revision`.
    pub fn checkpoint(&self, revision: Revision) -> String {
        format!("{}/checkpoints/{:020}", self.prefix, revision.0)
    }

    /// Checkpoints up to `last`.
    pub fn checkpoints_to(&self, last: Revision) -> Range {
        (self.checkpoint(Revision::NONE), self.checkpoint(last.next()))
    }

    /// Checkpoints before `end`.
    pub fn checkpoints_before(&self, end: Revision) -> Range {
        (self.checkpoint(Revision::NONE), self.checkpoint(end))
    }

    /// One part of what is too large for one value: content `id` of a record or of a checkpoint.
    pub fn part(&self, of: Part, revision: Revision, id: Id, index: u32) -> String {
        format!("{}{index:04}", self.parts(of, revision, id).0)
    }

    /// All parts of one content.
    pub fn parts(&self, of: Part, revision: Revision, id: Id) -> Range {
        let folder = format!("{}/{:020}/{id:032x}", self.parts_folder(of), revision.0);
        (format!("{folder}/"), format!("{folder}0"))
    }

    /// Parts that belong to revisions before `end`.
    pub fn parts_before(&self, of: Part, end: Revision) -> Range {
        let folder = self.parts_folder(of);
        (format!("{folder}/"), format!("{folder}/{:020}", end.0))
    }

    fn parts_folder(&self, of: Part) -> String {
        let folder = match of {
            Part::Record => "record-parts",
            Part::Checkpoint => "checkpoint-parts",
        };
        format!("{}/{folder}", self.prefix)
    }

    /// The oldest revision that can be read; absent: 0.
    pub fn floor(&self) -> String {
        format!("{}/floor", self.prefix)
    }

    /// The one that leads.
    pub fn leader(&self) -> String {
        format!("{}/leader", self.prefix)
    }

    /// The note of one control plane.
    pub fn note(&self, id: Id) -> String {
        format!("{}{id:032x}", self.notes().0)
    }

    /// The notes of all.
    pub fn notes(&self) -> Range {
        (format!("{}/replicas/", self.prefix), format!("{}/replicas0", self.prefix))
    }

    /// Whose note it is; `None` where the key is not one of ours.
    pub fn note_of(&self, key: &[u8]) -> Option<Id> {
        let id = key.strip_prefix(self.notes().0.as_bytes())?;
        Id::from_str_radix(std::str::from_utf8(id).ok()?, 16).ok()
    }
}

/// What a part belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Record,
    Checkpoint,
}
