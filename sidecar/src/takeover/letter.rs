//! What the old sidecar says of the files that it hands over.

use std::fmt;

use thiserror::Error;

/// Files of one hand-over; Linux passes at most 253 in one message.
pub const MOST_SOCKETS: usize = 250;
/// Longest letter.
pub const MOST_BYTES: usize = 1024;

const FIRST: &str = "segue-takeover 1";
/// The last line: a letter that lacks it is not whole yet.
const LAST: &str = ".";

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Outbound,
    Inbound,
    Admin,
    Lock,
}

/// The files by their role, in the order in which they come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// Revision of the snapshot that requests run on; 0: none.
    pub revision: u64,
    /// Role and number of files.
    pub files: Vec<(Role, usize)>,
}

/// A letter that makes no sense.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LetterError {
    #[error("it speaks another version of the conversation: {0:?}")]
    Version(String),
    #[error("it refuses: {0}")]
    Refused(String),
    #[error("line {0:?} is not understood")]
    Line(String),
    #[error("{0} files are announced, and at most {MOST_SOCKETS} are taken")]
    TooMany(usize),
    #[error("{announced} files are announced and {came} came")]
    Files { announced: usize, came: usize },
}

impl Role {
    const ALL: [Self; 4] = [Self::Outbound, Self::Inbound, Self::Admin, Self::Lock];

    fn word(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Admin => "admin",
            Self::Lock => "lock",
        }
    }
}

impl Letter {
    /// Whether `bytes` hold a whole letter, or a refusal.
    pub fn is_whole(bytes: &[u8]) -> bool {
        let refused = bytes.starts_with(super::REFUSED.as_bytes()) && bytes.ends_with(b"\n");
        refused || bytes.ends_with(b"\n.\n")
    }

    /// Reads a whole letter.
    pub fn parse(bytes: &[u8]) -> Result<Self, LetterError> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        if let Some(reason) = first.strip_prefix(super::REFUSED) {
            return Err(LetterError::Refused(reason.to_owned()));
        }
        if first != FIRST {
            return Err(LetterError::Version(first.to_owned()));
        }
        let mut letter = Self::default();
        for line in lines.take_while(|line| *line != LAST) {
            let wrong = || LetterError::Line(line.to_owned());
            let (word, number) = line.split_once(' ').ok_or_else(wrong)?;
            if word == "revision" {
                letter.revision = number.parse().map_err(|_| wrong())?;
                continue;
            }
            let role = Role::ALL.into_iter().find(|role| role.word() == word).ok_or_else(wrong)?;
            letter.files.push((role, number.parse().map_err(|_| wrong())?));
        }
        let total = letter.total();
        if total > MOST_SOCKETS { Err(LetterError::TooMany(total)) } else { Ok(letter) }
    }

    /// Files in all.
    pub fn total(&self) -> usize {
        self.files.iter().fold(0, |total, (_, count)| total.saturating_add(*count))
    }
}

impl fmt::Display for Letter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{FIRST}\nrevision {}", self.revision)?;
        for (role, count) in &self.files {
            writeln!(out, "{} {count}", role.word())?;
        }
        writeln!(out, "{LAST}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let letter = Letter {
            revision: 17,
            files: vec![(Role::Outbound, 2), (Role::Inbound, 2), (Role::Admin, 1), (Role::Lock, 1)],
        };
        let text = letter.to_string();
        assert!(Letter::is_whole(text.as_bytes()));
        assert!(!Letter::is_whole(&text.as_bytes()[..text.len() - 1]));
        assert_eq!(Letter::parse(text.as_bytes()), Ok(letter));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let fault = |text: &str| Letter::parse(text.as_bytes()).unwrap_err();
        let version = "segue-takeover 2".to_owned();
        assert_eq!(fault("segue-takeover 2\n.\n"), LetterError::Version(version));
        assert_eq!(fault("refused busy\n"), LetterError::Refused("busy".to_owned()));
        let line = "outbound many".to_owned();
        assert_eq!(fault("segue-takeover 1\noutbound many\n.\n"), LetterError::Line(line));
        assert_eq!(fault("segue-takeover 1\ninbound 251\n.\n"), LetterError::TooMany(251));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut text = b"segue-takeover 1\n".to_vec();
            text.extend(&bytes);
            for bytes in [&bytes, &text] {
                if let Ok(letter) = Letter::parse(bytes) {
                    prop_assert!(letter.total() <= MOST_SOCKETS);
                }
            }
        }
    }
}
