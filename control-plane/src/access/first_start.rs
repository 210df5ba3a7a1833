//! Tokens that the first start makes, so that nothing is open while nobody has thought of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::token::generate;

/// A token that cannot be made.
#[derive(Debug, Error)]
pub enum MakeError {
    #[error("{}: a token cannot be written: {source}", .file.display())]
    Write { file: PathBuf, source: io::Error },
    #[error("the system gives no randomness for a token")]
    Randomness,
}

/// Makes a file with a new token, mode 0600, unless there is one. Tells whether it did.
pub fn ensure_token(file: &Path, prefix: &str) -> Result<bool, MakeError> {
    let fail = |source| MakeError::Write { file: file.to_owned(), source };
    if file.try_exists().map_err(fail)? {
        return Ok(false);
    }
    let token = generate(prefix).ok_or(MakeError::Randomness)?;
    // Written aside and renamed: a crash leaves the whole token or none.
    let aside = file.with_extension("token.new");
    let write = || {
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        writeln!(new, "{}", token.expose())?;
        new.sync_all()?;
        fs::rename(&aside, file)?;
        let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(fail)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use segue_shared::secret::Secret;

    use super::*;

    #[test]
    fn the_first_start_makes_a_token_that_later_ones_keep() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("operator.token");
        // As a crash would leave it.
        fs::write(directory.path().join("operator.token.new"), "half").unwrap();
        assert!(ensure_token(&file, "segue-op-").unwrap());
        let first = Secret::read(&file).ok().unwrap();
        assert!(first.expose().starts_with("segue-op-"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!ensure_token(&file, "segue-op-").unwrap());
        assert!(Secret::read(&file).ok().unwrap() == first);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
