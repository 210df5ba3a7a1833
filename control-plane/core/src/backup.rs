//! What makes a backup whole: the order of its records, their number, and a digest over them.
//!
//! The server that writes one, the command line that keeps it and the server that takes it back
//! check it by the same rules.

use prost::Message as _;
use segue_proto::admin::v1::backup_record::Record;
use segue_proto::admin::v1::{BackupFooter, BackupHeader, BackupRecord};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Format that this release writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// Largest record: a commit that changed everything.
pub const MOST_RECORD_BYTES: usize = 256 * 1024 * 1024;

/// A backup that is not what was once written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BackupFault {
    #[error("it is cut off: it ends after {0} records without its footer")]
    Cut(u64),
    #[error("its digest differs: bytes of it were changed")]
    Digest,
    #[error("it holds {found} records, and its footer says {told}")]
    Count { found: u64, told: u64 },
    #[error("it was written by a newer release (format {0}, this release knows {FORMAT})")]
    NewerFormat(u32),
    #[error("record {0} is {1}")]
    Order(u64, &'static str),
    #[error("its commits lead to revision {found}, and its header says {told}")]
    Leads { found: u64, told: u64 },
}

/// Counts and digests records as they pass.
#[derive(Default)]
pub struct Seal {
    digest: Sha256,
    records: u64,
    begun: bool,
}

impl Seal {
    /// Takes the header, and then each record.
    pub fn take(&mut self, record: &BackupRecord) {
        self.digest.update(record.encode_to_vec());
        self.records += u64::from(std::mem::replace(&mut self.begun, true));
    }

    /// The last record.
    pub fn footer(self) -> BackupRecord {
        let footer =
            BackupFooter { records: self.records, sha256: self.digest.finalize().to_vec() };
        BackupRecord { record: Some(Record::Footer(footer)) }
    }
}

/// Checks records in the order in which they come.
#[derive(Default)]
pub struct Check {
    seal: Seal,
    header: Option<BackupHeader>,
    footer: Option<BackupFooter>,
    /// The revision of the last commit.
    led: u64,
}

/// What a whole backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// The revision that it continues. 0: it is a full one.
    pub since: u64,
    /// The revision that it leads to.
    pub revision: u64,
    /// Resources or commits.
    pub records: u64,
}

impl Check {
    pub fn take(&mut self, record: &BackupRecord) -> Result<(), BackupFault> {
        let place = self.seal.records;
        let wrong = |why| Err(BackupFault::Order(place, why));
        if self.footer.is_some() {
            return wrong("behind the footer");
        }
        match (&record.record, &self.header) {
            (Some(Record::Header(header)), None) => {
                if header.format > FORMAT {
                    return Err(BackupFault::NewerFormat(header.format));
                }
                if header.format == 0 || header.revision < header.since_revision {
                    return wrong("a header that makes no sense");
                }
                self.led = header.since_revision;
                self.header = Some(*header);
            }
            (Some(Record::Resource(_)), Some(header)) => {
                if header.since_revision > 0 {
                    return wrong("a resource, in an incremental backup");
                }
            }
            (Some(Record::Commit(commit)), Some(header)) => {
                if header.since_revision == 0 {
                    return wrong("a commit, in a full backup");
                }
                if commit.revision != self.led + 1 {
                    return wrong("not the next commit");
                }
                self.led = commit.revision;
            }
            (Some(Record::Footer(footer)), Some(_)) => {
                self.footer = Some(footer.clone());
                return Ok(());
            }
            (_, None) => return wrong("not a header"),
            (Some(Record::Header(_)), Some(_)) => return wrong("a second header"),
            (None, Some(_)) => return wrong("of a kind that this release does not know"),
        }
        self.seal.take(record);
        Ok(())
    }

    /// What it is, when all records were taken.
    pub fn end(self) -> Result<Whole, BackupFault> {
        let found = self.seal.records;
        let (Some(header), Some(footer)) = (self.header, self.footer) else {
            return Err(BackupFault::Cut(found));
        };
        if footer.records != found {
            return Err(BackupFault::Count { found, told: footer.records });
        }
        if self.seal.digest.finalize().as_slice() != footer.sha256 {
            return Err(BackupFault::Digest);
        }
        let (since, revision) = (header.since_revision, header.revision);
        if since > 0 && self.led != revision {
            return Err(BackupFault::Leads { found: self.led, told: revision });
        }
        Ok(Whole { since, revision, records: found })
    }
}

#[cfg(test)]
mod tests {
    use segue_proto::admin::v1::{BackupCommit, BackupResource};

    use super::*;

    fn record(record: Record) -> BackupRecord {
        BackupRecord { record: Some(record) }
    }

    fn header(since_revision: u64, revision: u64) -> BackupRecord {
        let header =
            BackupHeader { format: FORMAT, since_revision, revision, ..BackupHeader::default() };
        record(Record::Header(header))
    }

    fn commit(revision: u64) -> BackupRecord {
        record(Record::Commit(BackupCommit { revision, ..BackupCommit::default() }))
    }

    fn resource(revision: u64) -> BackupRecord {
        record(Record::Resource(BackupResource { revision, ..BackupResource::default() }))
    }

    fn sealed(mut records: Vec<BackupRecord>) -> Vec<BackupRecord> {
        let mut seal = Seal::default();
        for record in &records {
            seal.take(record);
        }
        records.push(seal.footer());
        records
    }

    fn check(records: &[BackupRecord]) -> Result<Whole, BackupFault> {
        let mut check = Check::default();
        records.iter().try_for_each(|record| check.take(record))?;
        check.end()
    }

    #[test]
    fn what_was_sealed_is_whole() {
        let full = sealed(vec![header(0, 7), resource(3), resource(7)]);
        assert_eq!(check(&full), Ok(Whole { since: 0, revision: 7, records: 2 }));
        let increment = sealed(vec![header(7, 9), commit(8), commit(9)]);
        assert_eq!(check(&increment), Ok(Whole { since: 7, revision: 9, records: 2 }));
        let idle = sealed(vec![header(7, 7)]);
        assert_eq!(check(&idle), Ok(Whole { since: 7, revision: 7, records: 0 }));
    }

    #[test]
    fn whatever_is_missing_is_noticed() {
        let full = sealed(vec![header(0, 7), resource(3), resource(7)]);
        for missing in 0..full.len() {
            let mut cut = full.clone();
            cut.remove(missing);
            assert!(check(&cut).is_err(), "without record {missing}");
            assert!(check(&full[..missing]).is_err(), "the first {missing}");
        }
    }

    #[test]
    fn what_is_in_the_wrong_place_is_named() {
        let wrong = |records: Vec<BackupRecord>| check(&sealed(records)).unwrap_err().to_string();
        assert_eq!(wrong(vec![resource(1)]), "record 0 is not a header");
        assert_eq!(wrong(vec![header(0, 2), commit(1)]), "record 0 is a commit, in a full backup");
        assert_eq!(
            wrong(vec![header(3, 5), commit(4), commit(6)]),
            "record 1 is not the next commit"
        );
        assert_eq!(
            wrong(vec![header(3, 5), commit(4)]),
            "its commits lead to revision 4, and its header says 5"
        );
    }

    #[test]
    fn a_changed_record_spoils_the_digest() {
        let mut full = sealed(vec![header(0, 7), resource(3)]);
        full[1] = resource(4);
        assert_eq!(check(&full), Err(BackupFault::Digest));
    }
}
