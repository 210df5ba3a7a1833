//! The door of the xDS port: nodes come in with a join token or a certificate of their authority.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::{Extensions, Request, Response};
use segue_shared::ids::ServiceName;
use segue_shared::secret::Secret;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tower_layer::Layer;
use tower_service::Service;

use super::credentials::{Presented, Unreadable, presented};
use super::metrics::{AccessMetrics, Port, Refusal};
use super::pace::Pace;
use super::peer::Peer;
use super::token::TokenDigest;
use crate::identity::{Tokens, Unfit};

/// The tokens that nodes may join with; several while they are rotated.
#[derive(Clone, Debug, Default)]
pub struct JoinTokens(Vec<Arc<JoinToken>>);

#[derive(Debug)]
struct JoinToken {
    digest: TokenDigest,
    revoked: AtomicBool,
}

/// What a node was let in with, in the extensions of its requests.
#[derive(Clone, Debug, Default)]
pub struct Ticket {
    /// `None`: a certificate, which ends with its connection, or nothing was asked for.
    token: Option<Arc<JoinToken>>,
    /// Who it is. `None`: whoever it says.
    member: Option<Arc<Member>>,
}

/// Somebody who has shown which service's instance it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub service: ServiceName,
    /// The id of the token that says so; `None`: a certificate does.
    pub token: Option<String>,
}

impl JoinTokens {
    /// These, in place of the present ones: tickets of those that are gone count no more.
    #[must_use]
    pub fn followed_by(&self, tokens: &[Secret]) -> Self {
        let digests: Vec<TokenDigest> =
            tokens.iter().map(|token| TokenDigest::of(token.expose().as_bytes())).collect();
        for known in &self.0 {
            if !digests.iter().any(|digest| known.digest.matches(digest)) {
                known.revoked.store(true, Ordering::Relaxed);
            }
        }
        let token = |digest: &TokenDigest| {
            let known = self.0.iter().find(|known| known.digest.matches(digest)).cloned();
            let new = || JoinToken { digest: *digest, revoked: AtomicBool::new(false) };
            known.unwrap_or_else(|| Arc::new(new()))
        };
        Self(digests.iter().map(token).collect())
    }

    /// Takes the same time whether and wherever it is found.
    fn ticket(&self, token: &[u8]) -> Option<Ticket> {
        let digest = TokenDigest::of(token);
        let mut found = None;
        for known in &self.0 {
            if known.digest.matches(&digest) {
                found = Some(known);
            }
        }
        found.map(|token| Ticket { token: Some(Arc::clone(token)), member: None })
    }
}

impl Ticket {
    /// The ticket of a request.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// Who brings it, where that was shown.
    pub fn member(&self) -> Option<&Member> {
        self.member.as_deref()
    }

    fn of_member(service: ServiceName, token: Option<String>) -> Self {
        Self { token: None, member: Some(Arc::new(Member { service, token })) }
    }

    /// Whether the token is no longer one that nodes may join with.
    pub fn is_revoked(&self) -> bool {
        self.token.as_ref().is_some_and(|token| token.revoked.load(Ordering::Relaxed))
    }
}

/// The layer before the services of the xDS port.
#[derive(Clone)]
pub struct JoinGate {
    /// `None`: everyone is let in (`--insecure-dev`).
    tokens: Option<Arc<ArcSwap<JoinTokens>>>,
    /// Tokens that people make, each for one service.
    scoped: Option<Tokens>,
    metrics: AccessMetrics,
    pace: Arc<Pace>,
}

impl JoinGate {
    pub fn new(tokens: Option<Arc<ArcSwap<JoinTokens>>>, metrics: AccessMetrics) -> Self {
        Self { tokens, scoped: None, metrics, pace: Arc::new(Pace::of_logs()) }
    }

    /// One that lets in with these tokens as well.
    #[must_use]
    pub fn with_scoped(self, scoped: Tokens) -> Self {
        Self { scoped: Some(scoped), ..self }
    }

    /// Lets everybody in.
    pub fn open() -> Self {
        Self::new(None, AccessMetrics::default())
    }

    fn admit(&self, request: &Request<Body>) -> Result<Ticket, Status> {
        let peer = request.extensions().get::<Peer>();
        // Whoever has shown a certificate of the mesh is that workload, whatever else it brings.
        if let Some(service) = peer.and_then(|peer| peer.identity.as_ref()?.service()) {
            return Ok(Ticket::of_member(service, None));
        }
        let presented = presented(request.headers());
        if let (Ok(Presented::Token(token)), Some(scoped)) = (&presented, &self.scoped)
            && let Ok(found) = scoped.find(token, SystemTime::now())
        {
            return Ok(Ticket::of_member(found.service, Some(found.id)));
        }
        let Some(tokens) = &self.tokens else { return Ok(Ticket::default()) };
        let told = request.extensions().get::<TcpConnectInfo>();
        let (refusal, reason) = match presented {
            Ok(Presented::Token(token)) => match tokens.load().ticket(token) {
                Some(ticket) => return Ok(ticket),
                None => match self.unfit(token) {
                    Unfit::Expired => (Refusal::ExpiredToken, "the join token has expired"),
                    _ => (Refusal::WrongToken, "the join token is not a valid one"),
                },
            },
            Ok(Presented::Nothing) if peer.is_some_and(|peer| peer.certificate.is_some()) => {
                return Ok(Ticket::default());
            }
            Ok(Presented::Nothing) => (Refusal::NoCredential, "no join token was sent"),
            Err(Unreadable) => (Refusal::WrongToken, "the authorization is no Bearer token"),
        };
        self.metrics.refused(Port::Xds, refusal);
        if self.pace.allows() {
            let address = peer.map(|peer| peer.address).or(told.and_then(|told| told.remote_addr));
            tracing::warn!(?address, reason, "a node was refused");
        }
        Err(Status::unauthenticated(format!(
            "{reason}: nodes send `authorization: Bearer TOKEN` with the control plane's join \
             token (a sidecar takes it from --join-token-file; the control plane keeps one in \
             DATA_DIR/join.token unless --join-token-file names another)"
        )))
    }
}

impl JoinGate {
    /// What is wrong with a token that lets nobody in.
    fn unfit(&self, token: &[u8]) -> Unfit {
        let scoped = self.scoped.as_ref();
        let found = scoped.map(|scoped| scoped.find(token, SystemTime::now()));
        found.and_then(Result::err).unwrap_or(Unfit::Unknown)
    }
}

impl<S> Layer<S> for JoinGate {
    type Service = Joined<S>;

    fn layer(&self, inner: S) -> Joined<S> {
        Joined { gate: self.clone(), inner }
    }
}

/// Services behind a [`JoinGate`].
#[derive(Clone)]
pub struct Joined<S> {
    gate: JoinGate,
    inner: S,
}

impl<S> Service<Request<Body>> for Joined<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.gate.admit(&request) {
            Ok(ticket) => {
                Peer::tell(request.extensions_mut());
                request.extensions_mut().insert(ticket);
                Box::pin(self.inner.call(request))
            }
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(tokens: &[&str]) -> Vec<Secret> {
        tokens.iter().map(|token| Secret::new(token).ok().unwrap()).collect()
    }

    #[test]
    fn tickets_count_for_as_long_as_their_token_is_in_the_list() {
        let first =
            JoinTokens::default().followed_by(&secrets(&["join-one-0123456", "join-two-0123456"]));
        let one = first.ticket(b"join-one-0123456").unwrap();
        let two = first.ticket(b"join-two-0123456").unwrap();
        assert!(first.ticket(b"join-six-0123456").is_none());
        let second = first.followed_by(&secrets(&["join-new-0123456", "join-two-0123456"]));
        assert!(one.is_revoked() && !two.is_revoked());
        let third = second.followed_by(&secrets(&["join-one-0123456"]));
        assert!(two.is_revoked(), "however often the list was read in between");
        assert!(third.ticket(b"join-one-0123456").is_some_and(|ticket| !ticket.is_revoked()));
        assert!(!Ticket::default().is_revoked());
    }
}
