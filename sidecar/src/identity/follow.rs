//! Takes one identity after the other from its source.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use segue_shared::backoff::Backoff;
use segue_shared::shutdown::DrainSignal;
use segue_shared::tls::BundleError;
use thiserror::Error;
use tracing::{info, warn};

use crate::control_plane::ControlPlaneError;
use crate::tls::{Identity, IdentityError, Mesh};

/// Where identities come from. It may be asked again after an error.
pub trait Source: Send {
    /// The next identity: the first one at once, each further one when it is time for it.
    fn next(&mut self) -> impl Future<Output = Result<Identity, SourceError>> + Send;
}

/// No identity, for now. The one before stays in use.
#[derive(Debug, Error)]
pub enum SourceError {
    #[error("{}: {source}", .file.display())]
    File { file: PathBuf, source: io::Error },
    #[error("{}: {reason}", .file.display())]
    Content { file: PathBuf, reason: String },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the authorities of the mesh: {0}")]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    #[error("the control plane does not issue a certificate: {0}")]
    Refused(Box<tonic::Status>),
    #[error("no key can be made: {0}")]
    Key(#[from] rcgen::Error),
    #[error("the certificate is {0}, which is not who this sidecar is")]
    OtherIdentity(String),
}

/// How it went so far. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    counts: Arc<[AtomicU64; 2]>,
}

impl Followed {
    /// Identities that were taken, and attempts that failed.
    pub fn counts(&self) -> [u64; 2] {
        [0, 1].map(|i| self.counts[i].load(Ordering::Relaxed))
    }

    fn count(&self, good: bool) {
        self.counts[usize::from(!good)].fetch_add(1, Ordering::Relaxed);
    }
}

/// Follows a source until `stop`: each identity is shown from the moment when it is there.
pub async fn follow(
    mut source: impl Source,
    mesh: Mesh,
    followed: Followed,
    draw: impl Fn() -> f64,
    stop: DrainSignal,
) {
    let mut backoff = Backoff::default();
    loop {
        let Some(next) = stop.run_until_cancelled(source.next()).await else { return };
        followed.count(next.is_ok());
        match next {
            Ok(identity) => {
                backoff.reset();
                take(&mesh, identity);
            }
            Err(error) => {
                warn!(%error, "no new identity; the one before stays in use, if there is one");
                let pause = tokio::time::sleep(backoff.next_pause(draw()));
                if stop.run_until_cancelled(pause).await.is_none() {
                    return;
                }
            }
        }
    }
}

/// Shows an identity from now on.
pub(super) fn take(mesh: &Mesh, identity: Identity) {
    let hours = identity.left(SystemTime::now()).as_secs() / 3600;
    info!(id = %identity.id(), hours_left = hours, "this sidecar has an identity");
    mesh.become_known_as(identity);
}
