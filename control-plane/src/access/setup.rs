//! From settings to the doors of both ports.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use segue_shared::secret::Secret;
use segue_shared::shutdown::DrainSignal;
use thiserror::Error;

use super::document;
use super::first_start::{MakeError, ensure_token};
use super::gate::AdminGate;
use super::join::{JoinGate, JoinTokens};
use super::list::AccessList;
use super::metrics::AccessMetrics;
use super::reload::{Followed, follow};
use super::settings::AccessSettings;
use super::token::{JOIN_PREFIX, OPERATOR_PREFIX};

/// The doors of both ports.
pub struct Access {
    pub admin: AdminGate,
    pub join: JoinGate,
    followed: Vec<Followed>,
    metrics: AccessMetrics,
}

/// What access depends on besides its own settings.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// Exists, and is this process's alone.
    pub data_dir: &'a Path,
    /// Nobody is asked who they are.
    pub insecure_dev: bool,
    /// Whether other control planes serve the same configuration, so that a token made here would
    /// be unknown there.
    pub several: bool,
}

/// Access that cannot be decided on.
#[derive(Debug, Error)]
pub enum AccessError {
    #[error("--{flag}: {reason}")]
    File { flag: &'static str, reason: String },
    #[error(
        "--insecure-dev asks nobody who they are, and --access-file says who may do what: take one"
    )]
    Contradiction,
    #[error(
        "several control planes on one store must know the same tokens: give each the same \
         --access-file and --join-token-file (or --insecure-dev, for development only)"
    )]
    Several,
    #[error(transparent)]
    Make(#[from] MakeError),
    #[error("{0}")]
    Made(String),
}

impl Access {
    /// Reads what is given, and makes the tokens that are not.
    pub fn open(
        settings: &AccessSettings,
        ground: Ground<'_>,
        metrics: AccessMetrics,
    ) -> Result<Self, AccessError> {
        if ground.insecure_dev {
            if settings.access_file.is_some() {
                return Err(AccessError::Contradiction);
            }
            let (admin, join) =
                (AdminGate::new(None, metrics.clone()), JoinGate::new(None, metrics.clone()));
            return Ok(Self { admin, join, followed: Vec::new(), metrics });
        }
        let given = settings.access_file.is_some() && settings.join_token_file.is_some();
        if ground.several && !given {
            return Err(AccessError::Several);
        }
        let (list, callers) = callers(settings.access_file.as_deref(), ground.data_dir)?;
        let (tokens, nodes) = nodes(settings.join_token_file.as_deref(), ground.data_dir)?;
        Ok(Self {
            admin: AdminGate::new(Some(list), metrics.clone()),
            join: JoinGate::new(Some(tokens), metrics.clone()),
            followed: vec![callers, nodes],
            metrics,
        })
    }

    /// What follows the files until the drain signal.
    pub fn follow(&mut self, drain: DrainSignal) -> impl Future<Output = ()> + Send + use<> {
        follow(std::mem::take(&mut self.followed), self.metrics.clone(), drain)
    }
}

fn callers(
    file: Option<&Path>,
    data_dir: &Path,
) -> Result<(Arc<ArcSwap<AccessList>>, Followed), AccessError> {
    let list = Arc::new(ArcSwap::from_pointee(AccessList::default()));
    let target = Arc::clone(&list);
    let followed = if let Some(file) = file {
        let file = file.to_owned();
        let load = move || {
            let read = document::read(&file).map_err(text)?;
            tracing::info!(file = %file.display(), callers = read.list.len(), "access is read");
            target.store(Arc::new(read.list));
            Ok(read.sources)
        };
        let begun = Followed::begin("access_file", Box::new(load));
        begun.map_err(|reason| AccessError::File { flag: "access-file", reason })?
    } else {
        let load = move |tokens: &[Secret]| {
            target.store(Arc::new(AccessList::of_operator(tokens)));
        };
        made(data_dir, "operator.token", OPERATOR_PREFIX, load)?
    };
    Ok((list, followed))
}

fn nodes(
    file: Option<&Path>,
    data_dir: &Path,
) -> Result<(Arc<ArcSwap<JoinTokens>>, Followed), AccessError> {
    let tokens = Arc::new(ArcSwap::from_pointee(JoinTokens::default()));
    let target = Arc::clone(&tokens);
    let load = move |tokens: &[Secret]| target.store(Arc::new(JoinTokens::new(tokens)));
    let followed = if let Some(file) = file {
        warn_of_readers(file);
        let begun = Followed::begin("join_tokens", of_tokens(file.to_owned(), load));
        begun.map_err(|reason| AccessError::File { flag: "join-token-file", reason })?
    } else {
        made(data_dir, "join.token", JOIN_PREFIX, load)?
    };
    Ok((tokens, followed))
}

/// A token file of the data directory, made if there is none.
fn made(
    data_dir: &Path,
    name: &'static str,
    prefix: &str,
    load: impl Fn(&[Secret]) + Send + 'static,
) -> Result<Followed, AccessError> {
    let file = data_dir.join(name);
    let new = ensure_token(&file, prefix)?;
    let shown = file.display();
    if new {
        tracing::info!(file = %shown, "a token was made");
    } else {
        tracing::info!(file = %shown, "the token that was made before is in use");
    }
    warn_of_readers(&file);
    Followed::begin(name, of_tokens(file.clone(), load)).map_err(|reason| {
        AccessError::Made(format!("{reason}; remove the file to have a new token made"))
    })
}

fn of_tokens(file: PathBuf, load: impl Fn(&[Secret]) + Send + 'static) -> super::reload::Load {
    Box::new(move || {
        load(&Secret::read_all(&file).map_err(text)?);
        Ok(vec![file.clone()])
    })
}

/// Whoever reads a token has its rights.
fn warn_of_readers(file: &Path) {
    let mode = fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        let mode = format!("{:o}", mode & 0o777);
        let file = file.display();
        tracing::warn!(%file, mode, "other users of this machine may read tokens: chmod 600");
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}
