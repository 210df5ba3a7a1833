//! `segue.admin.v1.CertificateService`.

use std::time::SystemTime;

use segue_proto::admin::v1 as api;
use segue_proto::admin::v1::certificate_service_server::CertificateService;
use tokio::task::spawn_blocking;
use tonic::{Request, Response, Status};

use super::in_flight::InFlight;
use super::token_service::no_authority;
use crate::identity::{AuthorityError, Laggard, Phase, Rotation, fingerprint, not_after, pem};

/// Instances that one answer names.
const MOST_NAMED: usize = 100;

/// See the module.
pub struct Certificates {
    /// `None`: this control plane is no authority.
    pub rotation: Option<Rotation>,
    pub in_flight: InFlight,
}

#[tonic::async_trait]
impl CertificateService for Certificates {
    async fn get_authority(
        &self,
        _: Request<api::GetAuthorityRequest>,
    ) -> Result<Response<api::GetAuthorityResponse>, Status> {
        let _place = self.in_flight.call()?;
        let rotation = self.rotation()?;
        let told = spawn_blocking(move || told(&rotation, SystemTime::now())).await;
        Ok(Response::new(told.map_err(|error| Status::internal(error.to_string()))?))
    }

    async fn rotate_root(
        &self,
        request: Request<api::RotateRootRequest>,
    ) -> Result<Response<api::RotateRootResponse>, Status> {
        let _place = self.in_flight.call()?;
        let (rotation, request) = (self.rotation()?, request.into_inner());
        let begin = move || rotation.begin(request.without_absent, SystemTime::now());
        let roots = blocking(begin).await?;
        Ok(Response::new(api::RotateRootResponse { step: step(roots.phase).into() }))
    }

    async fn abort_rotation(
        &self,
        _: Request<api::AbortRotationRequest>,
    ) -> Result<Response<api::AbortRotationResponse>, Status> {
        let _place = self.in_flight.call()?;
        let rotation = self.rotation()?;
        blocking(move || rotation.authority.abandon(SystemTime::now())).await?;
        Ok(Response::new(api::AbortRotationResponse {}))
    }
}

impl Certificates {
    fn rotation(&self) -> Result<Rotation, Status> {
        self.rotation.clone().ok_or_else(no_authority)
    }
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, AuthorityError> + Send + 'static,
) -> Result<R, Status> {
    let done = spawn_blocking(work).await.map_err(|error| Status::internal(error.to_string()))?;
    done.map_err(|error| match error {
        AuthorityError::Own | AuthorityError::Step(_) => {
            Status::failed_precondition(error.to_string())
        }
        _ => Status::internal(error.to_string()),
    })
}

fn told(rotation: &Rotation, now: SystemTime) -> api::GetAuthorityResponse {
    let standing = rotation.standing(now);
    let (holders, first) = rotation.roster.holders(now);
    let roots = standing.trust.bundle().iter().map(|root| api::Root {
        fingerprint: fingerprint(root),
        expires_at: not_after(root).map(Into::into),
        pem: pem(root),
    });
    let phase = standing.roots.as_ref().map_or(Phase::Steady, |roots| roots.phase);
    let under_way = standing.roots.as_ref().filter(|roots| roots.phase != Phase::Steady);
    api::GetAuthorityResponse {
        trust_domain: rotation.authority.domain.to_string(),
        roots: roots.collect(),
        signer_expires_at: Some(rotation.authority.signer_not_after().into()),
        step: step(phase).into(),
        step_since: under_way.map(|roots| roots.since().into()),
        waiting: standing.behind.iter().take(MOST_NAMED).map(waited_for).collect(),
        waiting_total: count(standing.behind.len()),
        holders: count(holders),
        first_expires_at: first.map(Into::into),
        without_absent: under_way.is_some_and(|roots| roots.without_absent),
        is_own: standing.roots.is_none(),
    }
}

fn waited_for(laggard: &Laggard) -> api::WaitedFor {
    api::WaitedFor {
        node_id: laggard.node.to_string(),
        service: laggard.service.to_string(),
        connected: laggard.connected,
        until: laggard.until.map(Into::into),
    }
}

fn step(phase: Phase) -> api::RotationStep {
    match phase {
        Phase::Steady => api::RotationStep::Steady,
        Phase::Distribute => api::RotationStep::Distribute,
        Phase::Issue => api::RotationStep::Issue,
        Phase::Drop => api::RotationStep::Drop,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
