//! Join tokens that people make: for instances of one service, for a while, for so many times.
//!
//! Kept in one file of the data directory as digests, so that a used one stays used after a restart.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use segue_shared::ids::ServiceName;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::files;

/// Tokens at one time.
const MOST_TOKENS: usize = 10_000;
/// How long a token that has ended is still listed, and told from one that never was.
const REMEMBERED: Duration = Duration::from_hours(24);
const FILE: &str = "join-tokens.json";

/// The tokens; clones share them.
#[derive(Clone)]
pub struct Tokens {
    shared: Arc<Shared>,
}

struct Shared {
    file: PathBuf,
    all: Mutex<Vec<Kept>>,
}

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub service: ServiceName,
    pub expires: SystemTime,
    /// Certificates that it may still get.
    pub uses_left: u32,
}

/// A token as it lies on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    id: String,
    /// SHA-256 in hexadecimal digits.
    digest: String,
    namespace: String,
    service: String,
    expires_unix_seconds: u64,
    uses: u32,
    used: u32,
    created_by: String,
}

/// Who joins with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    pub id: String,
    pub service: ServiceName,
}

/// A token as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: String,
    pub scope: Scope,
    pub uses: u32,
    pub created_by: String,
}

/// A new token. `id` names it where it must not be shown.
pub struct Made {
    pub id: String,
    pub scope: Scope,
}

/// A token that was used once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redeemed {
    pub service: ServiceName,
    pub uses_left: u32,
}

/// A token that nobody joins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    #[error("the join token is not a valid one")]
    Unknown,
    #[error("the join token has expired")]
    Expired,
    #[error("the join token was used as often as it may be")]
    UsedUp,
}

/// Tokens that cannot be kept.
#[derive(Debug, Error)]
pub enum TokenError {
    #[error("{}: {source}", .file.display())]
    File { file: PathBuf, source: io::Error },
    #[error("{}: {reason}", .file.display())]
    Content { file: PathBuf, reason: String },
    #[error("there are {MOST_TOKENS} tokens: revoke some, or let them expire")]
    TooMany,
    #[error("there is no token {0}")]
    Missing(String),
}

impl Tokens {
    /// Those of a data directory. Blocks.
    pub fn open(data_dir: &Path) -> Result<Self, TokenError> {
        let file = data_dir.join(FILE);
        let fail = |source| TokenError::File { file: file.clone(), source };
        let all = match fs::read(&file) {
            Ok(content) => serde_json::from_slice(&content).map_err(|error| {
                let reason = format!("{error}; remove the file to begin without any token");
                TokenError::Content { file: file.clone(), reason }
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                files::directory(data_dir).map_err(fail)?;
                Vec::new()
            }
            Err(error) => return Err(fail(error)),
        };
        Ok(Self { shared: Arc::new(Shared { file, all: Mutex::new(all) }) })
    }

    /// Takes a new token, which itself is not kept. Blocks.
    pub fn add(
        &self,
        token: &str,
        scope: Scope,
        created_by: &str,
        now: SystemTime,
    ) -> Result<Made, TokenError> {
        let digest = digest_of(token.as_bytes());
        let id = digest[..12].to_owned();
        let kept = Kept {
            id: id.clone(),
            digest,
            namespace: scope.service.namespace.clone(),
            service: scope.service.name.clone(),
            expires_unix_seconds: unix(scope.expires),
            uses: scope.uses_left,
            used: 0,
            created_by: created_by.to_owned(),
        };
        self.change(|all| {
            all.retain(|token| token.expires() + REMEMBERED > now);
            if all.len() >= MOST_TOKENS {
                return Err(TokenError::TooMany);
            }
            all.push(kept);
            Ok(Made { id, scope })
        })
    }

    /// All that are remembered, the newest last.
    pub fn list(&self) -> Vec<Listed> {
        let listed = |token: &Kept| Listed {
            id: token.id.clone(),
            scope: Scope {
                service: token.service(),
                expires: token.expires(),
                uses_left: token.uses.saturating_sub(token.used),
            },
            uses: token.uses,
            created_by: token.created_by.clone(),
        };
        self.all().iter().map(listed).collect()
    }

    /// From now on nobody joins with it. Blocks.
    pub fn revoke(&self, id: &str) -> Result<(), TokenError> {
        self.change(|all| {
            let before = all.len();
            all.retain(|token| token.id != id);
            if all.len() == before { Err(TokenError::Missing(id.to_owned())) } else { Ok(()) }
        })
    }

    /// Whose token it is, be it used up: whoever got a certificate with it may open streams.
    pub fn find(&self, token: &[u8], now: SystemTime) -> Result<JoinToken, Unfit> {
        let digest = digest_of(token);
        let all = self.all();
        // The digest of a secret that is not known cannot be felt for, byte by byte.
        let found = all.iter().find(|token| token.digest == digest).ok_or(Unfit::Unknown)?;
        if found.expires() <= now {
            return Err(Unfit::Expired);
        }
        Ok(JoinToken { id: found.id.clone(), service: found.service() })
    }

    /// Uses a token once. Nothing is given for it before that is on disk. Blocks.
    pub fn redeem(&self, id: &str, now: SystemTime) -> Result<Result<Redeemed, Unfit>, TokenError> {
        self.change(|all| {
            let Some(token) = all.iter_mut().find(|token| token.id == id) else {
                return Ok(Err(Unfit::Unknown));
            };
            if token.expires() <= now {
                return Ok(Err(Unfit::Expired));
            }
            if token.used >= token.uses {
                return Ok(Err(Unfit::UsedUp));
            }
            token.used += 1;
            Ok(Ok(Redeemed { service: token.service(), uses_left: token.uses - token.used }))
        })
    }

    /// Changes them on disk, then in memory.
    fn change<R>(
        &self,
        change: impl FnOnce(&mut Vec<Kept>) -> Result<R, TokenError>,
    ) -> Result<R, TokenError> {
        let mut all = self.all();
        let mut next = all.clone();
        let result = change(&mut next)?;
        let file = &self.shared.file;
        let fail = |source| TokenError::File { file: file.clone(), source };
        let content = serde_json::to_vec_pretty(&next).map_err(|error| fail(error.into()))?;
        files::replace(file, &content).map_err(fail)?;
        *all = next;
        Ok(result)
    }

    fn all(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.shared.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn expires(&self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.expires_unix_seconds)).unwrap_or(UNIX_EPOCH)
    }

    fn service(&self) -> ServiceName {
        ServiceName::new(self.namespace.clone(), self.service.clone())
    }
}

fn unix(moment: SystemTime) -> u64 {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn digest_of(token: &[u8]) -> String {
    let digest = digest(&SHA256, token);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        use std::fmt::Write as _;
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "segue-join-0123456789";

    fn scope(seconds: u64, uses: u32) -> Scope {
        let expires = UNIX_EPOCH + Duration::from_secs(seconds);
        Scope { service: ServiceName::new("shop", "cart"), expires, uses_left: uses }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_gets_as_many_certificates_as_it_may_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(directory.path()).unwrap();
        let made = tokens.add(TOKEN, scope(1000, 2), "ada", at(0)).unwrap();
        let found = tokens.find(TOKEN.as_bytes(), at(999)).unwrap();
        assert_eq!((&found.id, found.service), (&made.id, ServiceName::new("shop", "cart")));
        let left = |tokens: &Tokens, now| {
            tokens.redeem(&made.id, at(now)).unwrap().map(|redeemed| redeemed.uses_left)
        };
        assert_eq!(left(&tokens, 1), Ok(1));
        let again = Tokens::open(directory.path()).unwrap();
        assert_eq!(left(&again, 2), Ok(0));
        assert_eq!(left(&again, 3), Err(Unfit::UsedUp));
        assert_eq!(left(&Tokens::open(directory.path()).unwrap(), 3), Err(Unfit::UsedUp));
        assert!(again.find(TOKEN.as_bytes(), at(999)).is_ok(), "for streams");
        let content = fs::read_to_string(directory.path().join(FILE)).unwrap();
        assert!(!content.contains("0123456789"), "only digests are kept");
    }

    #[test]
    fn expired_revoked_and_made_up_tokens_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(directory.path()).unwrap();
        let made = tokens.add(TOKEN, scope(1000, 9), "ada", at(0)).unwrap();
        assert_eq!(tokens.find(b"segue-join-9999999999", at(1)), Err(Unfit::Unknown));
        assert_eq!(tokens.find(TOKEN.as_bytes(), at(1000)), Err(Unfit::Expired));
        assert_eq!(tokens.redeem(&made.id, at(1000)).unwrap(), Err(Unfit::Expired));
        assert_eq!(tokens.list().len(), 1);
        tokens.revoke(&made.id).unwrap();
        assert_eq!(tokens.find(TOKEN.as_bytes(), at(1)), Err(Unfit::Unknown));
        assert!(matches!(tokens.revoke(&made.id), Err(TokenError::Missing(_))));
    }

    #[test]
    fn what_has_ended_long_ago_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(directory.path()).unwrap();
        tokens.add(TOKEN, scope(1000, 1), "ada", at(0)).unwrap();
        tokens.add("segue-join-9876543210", scope(200_000, 1), "ada", at(100_000)).unwrap();
        let left: Vec<SystemTime> = tokens.list().iter().map(|it| it.scope.expires).collect();
        assert_eq!(left, [at(200_000)]);
    }
}
