//! `segue.admin.v1.TokenService`.

use std::time::{Duration, SystemTime};

use segue_proto::admin::v1 as api;
use segue_proto::admin::v1::token_service_server::TokenService;
use segue_shared::ids::ServiceName;
use tokio::task::spawn_blocking;
use tonic::{Request, Response, Status};

use super::in_flight::InFlight;
use crate::access::{Call, new_join_token};
use crate::identity::{Listed, Scope, TokenError, Tokens};

const DEFAULT_TTL: Duration = Duration::from_mins(10);
const LEAST_TTL: Duration = Duration::from_secs(1);
const MOST_TTL: Duration = Duration::from_hours(24 * 30);
const MOST_USES: u32 = 10_000;

/// See the module.
pub struct JoinTokens {
    /// `None`: this control plane is no authority.
    pub tokens: Option<Tokens>,
    pub in_flight: InFlight,
}

#[tonic::async_trait]
impl TokenService for JoinTokens {
    async fn create_token(
        &self,
        request: Request<api::CreateTokenRequest>,
    ) -> Result<Response<api::CreateTokenResponse>, Status> {
        let _place = self.in_flight.call()?;
        let tokens = self.tokens()?;
        let author = Call::of(request.extensions()).caller.author("");
        let request = request.into_inner();
        let service: ServiceName = request
            .service
            .parse()
            .map_err(|error| Status::invalid_argument(format!("service: {error}")))?;
        let ttl = match request.ttl {
            None => DEFAULT_TTL,
            Some(ttl) => Duration::try_from(ttl).unwrap_or_default(),
        };
        if !(LEAST_TTL..=MOST_TTL).contains(&ttl) {
            return Err(Status::invalid_argument("ttl: from 1s to 30d (720h)"));
        }
        let uses = if request.uses == 0 { 1 } else { request.uses };
        if uses > MOST_USES {
            return Err(Status::invalid_argument(format!("uses: at most {MOST_USES}")));
        }
        let now = SystemTime::now();
        let token = new_join_token()
            .ok_or_else(|| Status::internal("the system gives no randomness for a token"))?;
        let scope = Scope { service, expires: now + ttl, uses_left: uses };
        let (secret, by) = (token.clone(), author.clone());
        let made = blocking(move || tokens.add(secret.expose(), scope, &by, now)).await?;
        tracing::info!(id = made.id, service = %made.scope.service, "a join token was made");
        let about = Listed { id: made.id, scope: made.scope, uses, created_by: author };
        let token = token.expose().to_owned();
        Ok(Response::new(api::CreateTokenResponse { token, about: Some(told(about)) }))
    }

    async fn list_tokens(
        &self,
        _: Request<api::ListTokensRequest>,
    ) -> Result<Response<api::ListTokensResponse>, Status> {
        let _place = self.in_flight.call()?;
        let tokens = self.tokens()?.list().into_iter().map(told).collect();
        Ok(Response::new(api::ListTokensResponse { tokens }))
    }

    async fn revoke_token(
        &self,
        request: Request<api::RevokeTokenRequest>,
    ) -> Result<Response<api::RevokeTokenResponse>, Status> {
        let _place = self.in_flight.call()?;
        let (tokens, id) = (self.tokens()?, request.into_inner().id);
        blocking(move || tokens.revoke(&id)).await?;
        Ok(Response::new(api::RevokeTokenResponse {}))
    }
}

impl JoinTokens {
    fn tokens(&self) -> Result<Tokens, Status> {
        self.tokens.clone().ok_or_else(no_authority)
    }
}

pub(super) fn no_authority() -> Status {
    Status::failed_precondition(
        "this control plane is no authority of the mesh: several on one store need one, which \
         --ca-cert and --ca-key name",
    )
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, TokenError> + Send + 'static,
) -> Result<R, Status> {
    let done = spawn_blocking(work).await.map_err(|error| Status::internal(error.to_string()))?;
    done.map_err(|error| match error {
        TokenError::TooMany => Status::resource_exhausted(error.to_string()),
        TokenError::Missing(_) => Status::not_found(error.to_string()),
        TokenError::File { .. } | TokenError::Content { .. } => Status::internal(error.to_string()),
    })
}

fn told(token: Listed) -> api::Token {
    api::Token {
        id: token.id,
        service: token.scope.service.to_string(),
        expires_at: Some(token.scope.expires.into()),
        uses: token.uses,
        uses_left: token.scope.uses_left,
        created_by: token.created_by,
    }
}
