//! The roots of the embedded authority, and how far the mesh is on its way from one to the next.
//!
//! One small file says which root signs and which other one is believed beside it; replacing that
//! file is each step of a rotation, so that a crash leaves the mesh before the step or after it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::files::{self, FileError};

const FILE: &str = "roots.json";
/// The root of a first start.
const FIRST: &str = "root";

/// Which roots there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roots {
    /// Name of the root that signs; its files are `NAME.pem` and `NAME.key`.
    pub signs: String,
    /// The root that is believed beside it: the one to come, or the one before.
    pub beside: Option<String>,
    pub phase: Phase,
    /// When the phase began.
    since_unix_seconds: u64,
    /// Whether instances that are away are not waited for.
    #[serde(default)]
    pub without_absent: bool,
}

/// The steps of a rotation, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// One root, and no rotation.
    Steady,
    /// The next root is believed too, and signs nothing before everyone believes it.
    Distribute,
    /// The next root signs; the one before is believed until nobody shows what it signed.
    Issue,
    /// The root before is believed no more.
    Drop,
}

impl Roots {
    fn first() -> Self {
        Self {
            signs: FIRST.to_owned(),
            beside: None,
            phase: Phase::Steady,
            since_unix_seconds: 0,
            without_absent: false,
        }
    }

    /// Those of an authority's directory. Blocks.
    pub fn open(directory: &Path) -> Result<Self, FileError> {
        let file = directory.join(FILE);
        match fs::read(&file) {
            Ok(content) => serde_json::from_slice(&content).map_err(|error| FileError::Content {
                file: file.clone(),
                reason: error.to_string(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::first()),
            Err(source) => Err(FileError::File { file, source }),
        }
    }

    /// From now on it is so, also after a crash. Blocks.
    pub fn save(&self, directory: &Path) -> Result<(), FileError> {
        let file = directory.join(FILE);
        let fail = |source| FileError::File { file: file.clone(), source };
        let content = serde_json::to_vec_pretty(self).map_err(|error| fail(error.into()))?;
        files::replace(&file, &content).map_err(fail)
    }

    /// When the phase began.
    pub fn since(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.since_unix_seconds)
    }

    /// The phase after this one, at this time.
    #[must_use]
    pub fn next(&self, now: SystemTime) -> Self {
        let since_unix_seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (signs, beside, phase) = match (self.phase, &self.beside) {
            (Phase::Steady, _) => (self.signs.clone(), Some(self.after()), Phase::Distribute),
            (Phase::Distribute, Some(coming)) => {
                (coming.clone(), Some(self.signs.clone()), Phase::Issue)
            }
            (Phase::Issue, _) => (self.signs.clone(), None, Phase::Drop),
            (Phase::Distribute, None) | (Phase::Drop, _) => {
                (self.signs.clone(), None, Phase::Steady)
            }
        };
        Self { signs, beside, phase, since_unix_seconds, without_absent: self.without_absent }
    }

    /// The same; those that are away are waited for, or not.
    #[must_use]
    pub fn waiting(self, for_absent: bool) -> Self {
        Self { without_absent: !for_absent, ..self }
    }

    /// As it was before the next root came.
    #[must_use]
    pub fn abandoned(&self) -> Self {
        Self { beside: None, phase: Phase::Steady, ..self.clone() }
    }

    /// Name of the root that is to come: the names count up.
    fn after(&self) -> String {
        let number = self.signs.strip_prefix("root-").and_then(|it| it.parse::<u64>().ok());
        format!("root-{}", number.unwrap_or(1) + 1)
    }

    /// The two files of a root: its certificate and its key.
    pub fn files(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_is_four_steps_and_ends_with_one_root() {
        let now = UNIX_EPOCH + Duration::from_secs(7);
        let mut roots = Roots::first();
        let mut told = Vec::new();
        for _ in 0..8 {
            roots = roots.next(now);
            told.push((roots.phase, roots.signs.clone(), roots.beside.clone()));
        }
        let step = |phase, signs: &str, beside: Option<&str>| {
            (phase, signs.to_owned(), beside.map(ToOwned::to_owned))
        };
        assert_eq!(
            told,
            [
                step(Phase::Distribute, "root", Some("root-2")),
                step(Phase::Issue, "root-2", Some("root")),
                step(Phase::Drop, "root-2", None),
                step(Phase::Steady, "root-2", None),
                step(Phase::Distribute, "root-2", Some("root-3")),
                step(Phase::Issue, "root-3", Some("root-2")),
                step(Phase::Drop, "root-3", None),
                step(Phase::Steady, "root-3", None),
            ]
        );
    }

    #[test]
    fn what_was_saved_is_there_again_and_what_is_unreadable_is_told() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Roots::open(directory.path()).unwrap(), Roots::first());
        let next = Roots::first().next(SystemTime::now());
        next.save(directory.path()).unwrap();
        assert_eq!(Roots::open(directory.path()).unwrap(), next);
        fs::write(directory.path().join(FILE), "{\"signs\": 7}").unwrap();
        let error = Roots::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("roots.json"), "{error}");
    }
}
