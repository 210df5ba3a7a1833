//! The file of the redb store, and the lock of its directory.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ::redb::{Database, DatabaseError};

use super::StoreError;

const FILE: &str = "segue.redb";
const LOCK_FILE: &str = "segue.lock";
/// Pages of the file that are kept in memory.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Opens the database in `directory`, or makes it, and takes the directory for this process as
/// long as the lock is held. Every page is checked. Blocks.
pub fn open(directory: &Path) -> Result<(Database, File, PathBuf), StoreError> {
    let path = directory.join(FILE);
    let fail = |reason: String| StoreError::Open { file: path.display().to_string(), reason };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| fail(error.to_string()))?;
    let taken = lock(directory)
        .map_err(&fail)?
        .ok_or_else(|| StoreError::InUse { file: path.display().to_string() })?;
    if !path.exists() {
        tracing::warn!(directory = %directory.display(), "no store is there: a new one begins");
        create(directory, &path)?;
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600))
        .map_err(|error| fail(error.to_string()))?;
    let database = Database::builder()
        .set_check_integrity_on_open(true)
        .set_cache_size(CACHE_BYTES)
        .open(&path)
        .map_err(|error| open_error(&path, error))?;
    Ok((database, taken, path))
}

/// Takes the directory for this process. redb locks its file too, but two processes that begin at
/// one time would each make a file of their own. `None`: another one has it.
fn lock(directory: &Path) -> Result<Option<File>, String> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join(LOCK_FILE))
        .map_err(|error| error.to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error.to_string()),
    }
}

/// Makes the file aside and moves it into place whole, so that a crash here leaves no half file.
fn create(directory: &Path, path: &Path) -> Result<(), StoreError> {
    let fail = |reason: String| StoreError::Open { file: path.display().to_string(), reason };
    let aside: PathBuf = directory.join(format!("{FILE}.new"));
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)
        .map_err(|error| fail(error.to_string()))?;
    let database = Database::create(&aside).map_err(|error| open_error(path, error))?;
    super::prepare(&database).map_err(|error| fail(error.to_string()))?;
    drop(database);
    fs::rename(&aside, path)
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(|error| fail(error.to_string()))
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    let file = path.display().to_string();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::InUse { file }
        }
        other => StoreError::Open { file, reason: other.to_string() },
    }
}
