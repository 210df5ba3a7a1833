//! Words that only their owner and the other end may read: tokens of callers and of nodes.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Largest file of secrets.
const MOST_FILE_BYTES: u64 = 64 * 1024;
/// A shorter one is guessed.
const LEAST_BYTES: usize = 16;
/// A longer one does not fit the headers that it travels in.
const MOST_BYTES: usize = 1024;

/// A secret. It has neither `Debug` nor `Display`, so that it cannot slip into a log or an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

/// A secret that cannot be had. Never says what was read.
#[derive(Debug, Error)]
pub enum SecretError {
    #[error("{}: {source}", .file.display())]
    File { file: PathBuf, source: io::Error },
    #[error("{}: larger than {MOST_FILE_BYTES} bytes, so it is no file of tokens", .0.display())]
    TooLarge(PathBuf),
    #[error("{}: holds no token", .0.display())]
    Empty(PathBuf),
    #[error("{}:{line}: {source}", .file.display())]
    Line { file: PathBuf, line: usize, source: Unfit },
}

/// Text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    #[error("a token has from {LEAST_BYTES} to {MOST_BYTES} bytes")]
    Length,
    #[error("a token is visible ASCII without spaces")]
    Characters,
}

impl Secret {
    /// A token as it travels: visible ASCII without spaces, from 16 to 1,024 bytes.
    pub fn new(text: &str) -> Result<Self, Unfit> {
        if !(LEAST_BYTES..=MOST_BYTES).contains(&text.len()) {
            return Err(Unfit::Length);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Unfit::Characters);
        }
        Ok(Self(text.into()))
    }

    /// The tokens of a file, one a line. Empty lines, and lines that begin with `#`, are skipped;
    /// a file without any is an error.
    pub fn read_all(file: &Path) -> Result<Vec<Self>, SecretError> {
        let fail = |source| SecretError::File { file: file.to_owned(), source };
        let mut text = String::new();
        let opened = File::open(file).map_err(fail)?;
        opened.take(MOST_FILE_BYTES + 1).read_to_string(&mut text).map_err(fail)?;
        if text.len() as u64 > MOST_FILE_BYTES {
            return Err(SecretError::TooLarge(file.to_owned()));
        }
        let secrets = text
            .lines()
            .enumerate()
            .map(|(i, line)| (i + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(line, text)| {
                let unfit = |source| SecretError::Line { file: file.to_owned(), line, source };
                Self::new(text).map_err(unfit)
            })
            .collect::<Result<Vec<_>, _>>()?;
        if secrets.is_empty() {
            return Err(SecretError::Empty(file.to_owned()));
        }
        Ok(secrets)
    }

    /// The first token of a file, which is the one to send.
    pub fn read(file: &Path) -> Result<Self, SecretError> {
        Self::read_all(file)?.into_iter().next().ok_or_else(|| SecretError::Empty(file.to_owned()))
    }

    /// The secret itself. Only for what sends, stores or digests it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("segue-secret-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_file_has_a_token_a_line_and_may_say_what_they_are() {
        let path = file("two", "# the new one\nsegue-join-new-0001\n\n  segue-join-old-0001  \n");
        let all = Secret::read_all(&path).ok().unwrap();
        let first = Secret::read(&path).ok().unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(
            all.iter().map(Secret::expose).collect::<Vec<_>>(),
            ["segue-join-new-0001", "segue-join-old-0001"]
        );
        assert!(first == all[0]);
    }

    #[test]
    fn what_is_no_token_is_told_by_file_and_line_and_never_by_content() {
        for (name, text, part) in [
            ("empty", "\n# nothing\n", "holds no token"),
            ("short", "# mine\nhunter2\n", ":2: a token has from 16"),
            ("spaces", "this is no token, it is prose", ":1: a token is visible ASCII"),
        ] {
            let path = file(name, text);
            let error = Secret::read_all(&path).err().unwrap().to_string();
            std::fs::remove_file(&path).unwrap();
            assert!(error.starts_with(&path.display().to_string()), "{error}");
            assert!(error.contains(part), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("prose"), "{error}");
        }
    }
}
