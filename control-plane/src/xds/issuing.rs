//! `segue.identity.v1.IdentityService`: certificates for those who have shown who they are.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use segue_proto::identity::v1::identity_service_server::IdentityService;
use segue_proto::identity::v1::{IssueRequest, IssueResponse};
use segue_shared::ids::ServiceName;
use segue_shared::spiffe::SpiffeId;
use tokio::task::spawn_blocking;
use tonic::{Request, Response, Status};

use crate::access::{Member, Ticket};
use crate::identity::{IssueError, Issued, Membership};

/// Shortest life of a certificate.
const LEAST_TTL: Duration = Duration::from_mins(5);

/// The service; without a membership it issues nothing.
#[derive(Clone)]
pub(super) struct Issuing {
    pub membership: Option<Membership>,
}

#[tonic::async_trait]
impl IdentityService for Issuing {
    async fn issue(
        &self,
        request: Request<IssueRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let Some(membership) = self.membership.clone() else {
            return Err(Status::unimplemented("this control plane issues no certificates"));
        };
        let ticket = Ticket::of(request.extensions());
        let peer = request.remote_addr();
        let request = request.into_inner();
        let node = request.node_id.clone();
        let metrics = membership.metrics.clone();
        let domain = membership.authority.domain.clone();
        let authority = Arc::clone(&membership.authority);
        // Disk and keys.
        let issued = spawn_blocking(move || issue(&membership, ticket.member(), &request)).await;
        let issued = issued.map_err(|error| Status::internal(error.to_string()))?;
        match issued {
            Ok((id, issued)) => {
                metrics.issued();
                // Not older than the certificate: what it leads to is among them.
                let trust = authority.trust();
                let authorities = trust.bundle().iter().map(|it| it.to_vec()).collect();
                tracing::info!(%id, node, ?peer, "a certificate was issued");
                Ok(Response::new(IssueResponse {
                    chain: issued.chain.iter().map(|it| it.to_vec()).collect(),
                    trust_domain: domain.to_string(),
                    authorities,
                }))
            }
            Err((reason, status)) => {
                metrics.refused(reason);
                tracing::warn!(node, ?peer, reason, error = status.message(), "no certificate");
                Err(status)
            }
        }
    }
}

type Refused = (&'static str, Status);

fn issue(
    membership: &Membership,
    member: Option<&Member>,
    request: &IssueRequest,
) -> Result<(SpiffeId, Issued), Refused> {
    let asked: ServiceName = request
        .service
        .parse()
        .map_err(|error| ("request", Status::invalid_argument(format!("service: {error}"))))?;
    if let Some(member) = member.filter(|member| member.service != asked) {
        let own = &member.service;
        let message = format!("the caller is an instance of {own}, and asks for {asked}");
        return Err(("other_service", Status::permission_denied(message)));
    }
    let id = SpiffeId::of_service(&membership.authority.domain, &asked);
    let ttl = request.ttl.and_then(|ttl| Duration::try_from(ttl).ok());
    let ttl = ttl.unwrap_or(membership.ttl).clamp(LEAST_TTL, membership.ttl.max(LEAST_TTL));
    let now = SystemTime::now();
    let issued =
        membership.authority.issue(&id, &request.csr, ttl, now).map_err(|error| refused(&error))?;
    // A use is spent on disk before the certificate goes out, and only on one that can.
    if let Some(token) = member.and_then(|member| member.token.as_deref()) {
        let redeemed = membership.tokens.redeem(token, now);
        let redeemed =
            redeemed.map_err(|error| ("token_file", Status::internal(error.to_string())))?;
        redeemed.map_err(|unfit| ("token", Status::unauthenticated(unfit.to_string())))?;
    }
    let (root, until) = (issued.root.clone(), issued.not_after);
    let noted = membership.roster.given(&request.node_id, asked.to_string(), root, until, now);
    noted.map_err(|error| ("roster", Status::internal(error.to_string())))?;
    Ok((id, issued))
}

fn refused(error: &IssueError) -> Refused {
    let message = error.to_string();
    let status = match error {
        IssueError::Request(_) | IssueError::Key => Status::invalid_argument(message),
        IssueError::OtherIdentity(..) => Status::permission_denied(message),
        IssueError::Authority(_) => Status::internal(message),
    };
    (error.reason(), status)
}
