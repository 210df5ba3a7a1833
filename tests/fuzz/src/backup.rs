//! Backups: a whole one is made of the first bytes, and its bytes are changed as the others say. Where
//! it begins with `raw`, the rest is the file itself.

use prost::Message as _;
use segue_control_plane_core::backup::{Check, FORMAT, Seal, Whole};
use segue_proto::admin::v1::backup_record::Record;
use segue_proto::admin::v1::{BackupCommit, BackupHeader, BackupRecord, BackupResource};

use crate::input::Input;

const MOST_EDITS: usize = 8;

pub fn check(bytes: &[u8]) {
    if let Some(file) = bytes.strip_prefix(b"raw") {
        if let Some((records, _)) = read(file) {
            assert_eq!(sealed(&records[..records.len() - 1]), records, "only whole ones are read");
        }
        return;
    }
    let mut input = Input::new(bytes);
    let records = sealed(&records(&mut input));
    let mut file = written(&records);
    let (read_back, whole) = read(&file).expect("what was written is read");
    assert_eq!(read_back, records);
    assert_eq!(whole.records, records.len() as u64 - 2);
    for _ in 0..MOST_EDITS {
        if input.is_empty() || file.is_empty() {
            break;
        }
        edit(&mut file, &mut input);
    }
    if let Some((read_back, _)) = read(&file) {
        assert_eq!(read_back, records, "what was changed is refused");
    }
}

/// A header and what a backup of its kind holds.
fn records(input: &mut Input<'_>) -> Vec<BackupRecord> {
    let (kind, count) = (input.byte(), u64::from(input.byte() % 8));
    let since_revision = if kind % 2 == 0 { 0 } else { u64::from(input.byte()) + 1 };
    let revision = since_revision + count;
    let header =
        BackupHeader { format: FORMAT, since_revision, revision, ..BackupHeader::default() };
    let content = (1..=count).map(|i| {
        if since_revision == 0 {
            Record::Resource(BackupResource { revision: i, ..BackupResource::default() })
        } else {
            let revision = since_revision + i;
            Record::Commit(BackupCommit { revision, ..BackupCommit::default() })
        }
    });
    let all = std::iter::once(Record::Header(header)).chain(content);
    all.map(|record| BackupRecord { record: Some(record) }).collect()
}

fn sealed(records: &[BackupRecord]) -> Vec<BackupRecord> {
    let mut seal = Seal::default();
    for record in records {
        seal.take(record);
    }
    records.iter().cloned().chain([seal.footer()]).collect()
}

fn written(records: &[BackupRecord]) -> Vec<u8> {
    records.iter().flat_map(BackupRecord::encode_length_delimited_to_vec).collect()
}

/// Reads a file to its end; `None` where anything is wrong with it.
fn read(mut file: &[u8]) -> Option<(Vec<BackupRecord>, Whole)> {
    let (mut check, mut records) = (Check::default(), Vec::new());
    while !file.is_empty() {
        let record = BackupRecord::decode_length_delimited(&mut file).ok()?;
        check.take(&record).ok()?;
        records.push(record);
    }
    check.end().ok().map(|whole| (records, whole))
}

fn edit(file: &mut Vec<u8>, input: &mut Input<'_>) {
    let (kind, at, byte) = (input.byte(), usize::from(input.short()) % file.len(), input.byte());
    match kind % 5 {
        0 => file[at] ^= byte,
        1 => file.truncate(at),
        2 => drop(file.remove(at)),
        3 => file.insert(at, byte),
        _ => {
            let end = (at + usize::from(byte)).min(file.len());
            file.extend_from_within(at..end);
        }
    }
}
