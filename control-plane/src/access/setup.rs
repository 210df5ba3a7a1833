//! From settings to the doors of both ports.

use std::fmt::Display;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use segue_shared::secret::Secret;
use segue_shared::shutdown::DrainSignal;
use thiserror::Error;

use super::audit::{AuditLog, Target, Writer};
use super::document;
use super::first_start::{MakeError, ensure_token};
use super::gate::AdminGate;
use super::incoming::Threshold;
use super::join::{JoinGate, JoinTokens};
use super::list::AccessList;
use super::metrics::{AccessMetrics, Port};
use super::reload::{Followed, follow};
use super::settings::AccessSettings;
use super::tls::{self, TlsFiles};
use super::token::{JOIN_PREFIX, OPERATOR_PREFIX};
use crate::identity::Membership;

/// The doors of both ports.
pub struct Access {
    pub admin: AdminGate,
    pub join: JoinGate,
    pub admin_threshold: Threshold,
    pub xds_threshold: Threshold,
    /// Writes the audit log, on a thread of its own.
    pub audit: Option<Writer>,
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
    #[error("--{port}-tls-cert, --{port}-tls-key, --{port}-client-ca: {reason}")]
    Tls { port: &'static str, reason: String },
    #[error("--{port}-tls-cert and --{port}-tls-key go together, and --{port}-client-ca with them")]
    HalfTls { port: &'static str },
    #[error("the audit log {target}: {source}; name another with --audit-log, or say off")]
    Audit { target: String, source: io::Error },
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
        membership: Option<&Membership>,
        metrics: AccessMetrics,
    ) -> Result<Self, AccessError> {
        let mut followed = Vec::new();
        let admin_threshold = threshold(Port::Admin, settings, None, &metrics, &mut followed)?;
        let xds_threshold = threshold(Port::Xds, settings, membership, &metrics, &mut followed)?;
        let joining = |gate: JoinGate| match membership {
            Some(membership) => gate.with_scoped(membership.tokens.clone()),
            None => gate,
        };
        let (log, audit) = audit(settings, ground.data_dir, &metrics)?;
        if ground.insecure_dev {
            if settings.access_file.is_some() {
                return Err(AccessError::Contradiction);
            }
            let admin = AdminGate::new(None, log, metrics.clone());
            let join = joining(JoinGate::new(None, metrics.clone()));
            return Ok(Self {
                admin,
                join,
                admin_threshold,
                xds_threshold,
                audit,
                followed,
                metrics,
            });
        }
        let given = settings.access_file.is_some() && settings.join_token_file.is_some();
        if ground.several && !given {
            return Err(AccessError::Several);
        }
        let (list, callers) = callers(settings.access_file.as_deref(), ground.data_dir)?;
        let (tokens, nodes) = nodes(settings.join_token_file.as_deref(), ground.data_dir)?;
        followed.extend([callers, nodes]);
        Ok(Self {
            admin: AdminGate::new(Some(list), log, metrics.clone()),
            join: joining(JoinGate::new(Some(tokens), metrics.clone())),
            admin_threshold,
            xds_threshold,
            audit,
            followed,
            metrics,
        })
    }

    /// What follows the files until the drain signal.
    pub fn follow(&mut self, drain: DrainSignal) -> impl Future<Output = ()> + Send + use<> {
        follow(std::mem::take(&mut self.followed), self.metrics.clone(), drain)
    }
}

fn threshold(
    port: Port,
    settings: &AccessSettings,
    membership: Option<&Membership>,
    metrics: &AccessMetrics,
    followed: &mut Vec<Followed>,
) -> Result<Threshold, AccessError> {
    let (certificate, key, authorities, what) = match port {
        Port::Admin => (
            &settings.admin_tls_cert,
            &settings.admin_tls_key,
            &settings.admin_client_ca,
            "admin_tls",
        ),
        Port::Xds => {
            (&settings.xds_tls_cert, &settings.xds_tls_key, &settings.xds_client_ca, "xds_tls")
        }
    };
    let own = membership.and_then(|membership| membership.server.as_ref());
    let (certificate, key) = match own {
        Some(own) => (&Some(own.certificate.clone()), &Some(own.key.clone())),
        None => (certificate, key),
    };
    let tls = match (certificate, key, authorities) {
        (None, None, None) => None,
        (Some(certificate), Some(key), authorities) => {
            warn_of_readers(key);
            let files = TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                client_authorities: authorities.clone(),
                mesh: membership
                    .map(|it| (it.authority.domain.clone(), it.authority.bundle_file())),
            };
            let (tls, files) = tls::follow(what, files)
                .map_err(|reason| AccessError::Tls { port: port.as_str(), reason })?;
            followed.push(files);
            Some(tls)
        }
        _ => return Err(AccessError::HalfTls { port: port.as_str() }),
    };
    Ok(Threshold::new(port, tls, metrics.clone()))
}

fn audit(
    settings: &AccessSettings,
    data_dir: &Path,
    metrics: &AccessMetrics,
) -> Result<(AuditLog, Option<Writer>), AccessError> {
    let target = match settings.audit_log.as_deref() {
        Some("off") => None,
        Some("-") => Some(Target::Output),
        Some(file) => Some(Target::File(file.into())),
        None => Some(Target::File(data_dir.join("audit.log"))),
    };
    let shown = match &target {
        Some(Target::File(file)) => file.display().to_string(),
        _ => "-".to_owned(),
    };
    let open = || {
        if settings.audit_log.is_none() {
            // A control plane on another store than its own directory may have none yet.
            DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
        }
        AuditLog::open(target, metrics.clone())
    };
    open().map_err(|source| AccessError::Audit { target: shown, source })
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
    let load = move |tokens: &[Secret]| target.store(Arc::new(target.load().followed_by(tokens)));
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
