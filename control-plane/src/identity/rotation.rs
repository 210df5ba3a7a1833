//! The way from one root to the next: each step is taken when the one before it is in effect
//! everywhere.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use segue_control_plane_core::compile::secret;
use segue_shared::shutdown::DrainSignal;

use super::authority::{Authority, AuthorityError};
use super::metrics::IdentityMetrics;
use super::roots::{Phase, Roots};
use super::roster::{Goal, Laggard, Roster};
use super::trust::Trust;

/// Between looks at who is behind.
const LOOK: Duration = Duration::from_secs(1);
/// Shortest time of a step: the xDS port reads the authorities of its clients from a file.
const SHORTEST_STEP: Duration = Duration::from_secs(3);

/// The rotation; clones share it.
#[derive(Clone)]
pub struct Rotation {
    pub authority: Arc<Authority>,
    pub roster: Roster,
    pub metrics: IdentityMetrics,
}

/// How it stands.
pub struct Standing {
    /// `None`: the root is the user's own.
    pub roots: Option<Roots>,
    pub trust: Arc<Trust>,
    /// Who is waited for before the next step.
    pub behind: Vec<Laggard>,
}

impl Rotation {
    /// Begins one; while one is under way, only says whether those that are away are waited for.
    /// Blocks.
    pub fn begin(&self, without_absent: bool, now: SystemTime) -> Result<Roots, AuthorityError> {
        let roots = self.authority.roots().ok_or(AuthorityError::Own)?;
        if roots.phase == Phase::Steady {
            let begun = self.authority.go_on(without_absent, now)?;
            told(&begun);
            return Ok(begun);
        }
        self.authority.wait_for_absent(!without_absent)
    }

    /// How it stands now.
    pub fn standing(&self, now: SystemTime) -> Standing {
        let (roots, trust) = (self.authority.roots(), self.authority.trust());
        let without_absent = roots.as_ref().is_some_and(|it| it.without_absent);
        let phase = roots.as_ref().map_or(Phase::Steady, |it| it.phase);
        let version = secret::authorities(&trust.pem());
        let signer = trust.signer();
        let goal = match phase {
            Phase::Steady | Phase::Distribute | Phase::Drop => Goal::Believe(version.version()),
            Phase::Issue => Goal::Show(&signer),
        };
        // Whoever is away and believes too much is told when it comes back.
        let without_absent = without_absent || matches!(phase, Phase::Steady | Phase::Drop);
        let behind = self.roster.behind(goal, without_absent, now);
        Standing { roots, trust, behind }
    }

    /// Goes on step by step, until the drain.
    pub async fn walk(self, drain: DrainSignal) {
        while drain.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let own = self.clone();
            let step = tokio::task::spawn_blocking(move || own.step(SystemTime::now())).await;
            match step {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(roots))) => told(&roots),
                Ok(Err(error)) => tracing::error!(%error, "the rotation of the root stands still"),
                Err(error) => tracing::error!(%error, "the rotation of the root stands still"),
            }
        }
    }

    /// The next step, where it is safe.
    fn step(&self, now: SystemTime) -> Result<Option<Roots>, AuthorityError> {
        let Some(roots) = self.authority.roots() else { return Ok(None) };
        if roots.phase == Phase::Steady {
            self.metrics.rotation(0, 0);
            return Ok(None);
        }
        let behind = self.standing(now).behind.len();
        self.metrics.rotation(roots.phase as u64, behind);
        // A clock that was set back may say anything.
        let lasts = now.duration_since(roots.since()).is_ok_and(|it| it < SHORTEST_STEP);
        if lasts || behind > 0 {
            return Ok(None);
        }
        self.authority.go_on(roots.without_absent, now).map(Some)
    }
}

fn told(roots: &Roots) {
    let step = match roots.phase {
        Phase::Distribute => "a new root was made; it signs when all believe it",
        Phase::Issue => "all believe the new root: it signs now, and all ask for new certificates",
        Phase::Drop => "nobody shows what the old root has signed: it is believed no more",
        Phase::Steady => "the rotation of the root is over",
    };
    tracing::info!(signs = roots.signs, step, "root");
}
