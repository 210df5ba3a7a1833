//! The last good resources on disk, so that a sidecar that starts while the control plane is away
//! serves what it served before.
//!
//! One file, replaced as a whole: magic, format version, length and checksum, then the resources as
//! they came. Only the owner may read it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use prost::Message;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

const FILE: &str = "snapshot.segue";
const TEMPORARY: &str = "snapshot.segue.new";
const ASIDE: &str = "snapshot.segue.corrupt";
const LOCK: &str = "sidecar.lock";
const MAGIC: &[u8; 8] = b"SEGUESNP";
/// Readers take only their own version: an older file is as good as none.
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 8 + 4 + 8 + 8;
/// Nothing near this size is ever written; a longer file is not read into memory.
const MAX_BYTES: u64 = 1 << 30;

/// A good resource.
#[derive(Clone, PartialEq, Message)]
pub struct SavedResource {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its version in delta xDS; empty where it came without.
    #[prost(string, tag = "3")]
    pub version: String,
    #[prost(bytes = "vec", tag = "4")]
    pub value: Vec<u8>,
}

/// All good resources of one moment.
#[derive(Clone, PartialEq, Message)]
pub struct Saved {
    #[prost(message, repeated, tag = "1")]
    pub resources: Vec<SavedResource>,
}

/// A file that cannot be used.
#[derive(Debug, Error)]
pub enum SnapshotFileError {
    #[error("snapshot file {path}: {source}; check that the data directory is there and writable")]
    Io { path: PathBuf, source: io::Error },
    #[error("snapshot file {path} is not used: {reason}")]
    Corrupt { path: PathBuf, reason: String },
    #[error(
        "data directory {0} belongs to another sidecar that runs; give each one its own, or take \
         the place of that one with --take-over"
    )]
    Taken(PathBuf),
}

/// A data directory that nobody else uses for as long as this lives.
#[derive(Debug)]
pub struct DataLock(File);

impl DataLock {
    /// The lock of the process whose place is taken: it is of the open file, whoever has it open.
    pub fn inherited(file: OwnedFd) -> Self {
        Self(File::from(file))
    }

    /// For the process that takes the place of this one.
    pub fn copy(&self) -> io::Result<OwnedFd> {
        self.0.try_clone().map(OwnedFd::from)
    }
}

/// Takes a data directory for this process alone; makes it where there is none.
pub fn lock(data_dir: &Path) -> Result<DataLock, SnapshotFileError> {
    let path = data_dir.join(LOCK);
    let failed = |source| SnapshotFileError::Io { path: path.clone(), source };
    fs::create_dir_all(data_dir).map_err(failed)?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(DataLock(file)),
        Err(TryLockError::WouldBlock) => Err(SnapshotFileError::Taken(data_dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Reads the file of a data directory. `None` where there is none. A corrupt file is renamed, so
/// that it can be looked at and the next start finds none.
pub fn load(data_dir: &Path) -> Result<Option<Saved>, SnapshotFileError> {
    let path = data_dir.join(FILE);
    let failed = |source| SnapshotFileError::Io { path: path.clone(), source };
    let bytes = match fs::metadata(&path)
        .and_then(|meta| if meta.len() > MAX_BYTES { Ok(Vec::new()) } else { fs::read(&path) })
    {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match decode(&bytes) {
        Ok(saved) => Ok(Some(saved)),
        Err(reason) => {
            fs::rename(&path, data_dir.join(ASIDE)).map_err(failed)?;
            Err(SnapshotFileError::Corrupt { path, reason })
        }
    }
}

/// Replaces the file: after this, a crash at any moment leaves the old or the new one whole. Blocks
/// on the disk.
pub fn store(data_dir: &Path, saved: &Saved) -> Result<(), SnapshotFileError> {
    let path = data_dir.join(FILE);
    write(data_dir, &path, &encode(saved)).map_err(|source| SnapshotFileError::Io { path, source })
}

fn write(data_dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(data_dir)?;
    let temporary = data_dir.join(TEMPORARY);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // The new name itself must reach the disk.
    File::open(data_dir)?.sync_all()
}

fn encode(saved: &Saved) -> Vec<u8> {
    let payload = saved.encode_to_vec();
    let mut bytes = Vec::with_capacity(HEAD_BYTES + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&xxh3_64(&payload).to_le_bytes());
    bytes.extend_from_slice(&payload);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Saved, String> {
    let (head, payload) =
        bytes.split_at_checked(HEAD_BYTES).ok_or_else(|| "it is too short or long".to_owned())?;
    let number = |at: usize| {
        head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    if !head.starts_with(MAGIC) {
        return Err("it does not begin as a snapshot file".to_owned());
    }
    let version = number(8) as u32;
    if version != VERSION {
        return Err(format!("its format is {version}, this release reads {VERSION}"));
    }
    if number(12) != payload.len() as u64 {
        return Err(format!("it holds {} bytes, not {}", payload.len(), number(12)));
    }
    if number(20) != xxh3_64(payload) {
        return Err("its checksum does not fit".to_owned());
    }
    Saved::decode(payload).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn saved() -> Saved {
        let resource = |name: &str| SavedResource {
            type_url: "t".to_owned(),
            name: name.to_owned(),
            version: "1".to_owned(),
            value: name.as_bytes().to_vec(),
        };
        Saved { resources: vec![resource("a"), resource("b")] }
    }

    #[test]
    fn what_was_stored_is_loaded_and_private() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).unwrap().is_none());
        store(dir.path(), &saved()).unwrap();
        store(dir.path(), &saved()).unwrap();
        assert_eq!(load(dir.path()).unwrap(), Some(saved()));
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_directory_has_one_sidecar_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        let error = lock(dir.path()).unwrap_err().to_string();
        assert!(error.contains("another sidecar"), "{error}");
        drop(held);
        assert!(lock(dir.path()).is_ok());
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_found_and_kept_aside() {
        let good = encode(&saved());
        let cuts = (0..good.len()).map(|end| good[..end].to_vec());
        let flips = (0..good.len()).map(|at| {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            bad
        });
        for bad in cuts.chain(flips) {
            assert!(decode(&bad).is_err());
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), b"nonsense").unwrap();
        assert!(matches!(load(dir.path()), Err(SnapshotFileError::Corrupt { .. })));
        assert_eq!(fs::read(dir.path().join(ASIDE)).unwrap(), b"nonsense");
        assert!(load(dir.path()).unwrap().is_none(), "the next start finds none");
    }
}
