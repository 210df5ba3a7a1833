//! The door of the xDS port: nodes come in with a join token or a certificate of their authority.

use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::{Request, Response};
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

/// The tokens that nodes may join with; several while they are rotated.
#[derive(Clone, Debug, Default)]
pub struct JoinTokens(Vec<TokenDigest>);

impl JoinTokens {
    pub fn new(tokens: &[Secret]) -> Self {
        let digest = |token: &Secret| TokenDigest::of(token.expose().as_bytes());
        Self(tokens.iter().map(digest).collect())
    }

    /// Takes the same time whether and wherever it is found.
    fn hold(&self, token: &[u8]) -> bool {
        let digest = TokenDigest::of(token);
        self.0.iter().fold(false, |found, known| known.matches(&digest) | found)
    }
}

/// The layer before the services of the xDS port.
#[derive(Clone, Debug)]
pub struct JoinGate {
    /// `None`: everyone is let in (`--insecure-dev`).
    tokens: Option<Arc<ArcSwap<JoinTokens>>>,
    metrics: AccessMetrics,
    pace: Arc<Pace>,
}

impl JoinGate {
    pub fn new(tokens: Option<Arc<ArcSwap<JoinTokens>>>, metrics: AccessMetrics) -> Self {
        Self { tokens, metrics, pace: Arc::new(Pace::of_logs()) }
    }

    /// Lets everybody in.
    pub fn open() -> Self {
        Self::new(None, AccessMetrics::default())
    }

    fn admit(&self, request: &Request<Body>) -> Result<(), Status> {
        let Some(tokens) = &self.tokens else { return Ok(()) };
        let peer = request.extensions().get::<Peer>();
        let told = request.extensions().get::<TcpConnectInfo>();
        let (refusal, reason) = match presented(request.headers()) {
            Ok(Presented::Token(token)) if tokens.load().hold(token) => return Ok(()),
            Ok(Presented::Token(_)) => (Refusal::WrongToken, "the join token is not a valid one"),
            Ok(Presented::Nothing) if peer.is_some_and(|peer| peer.certificate.is_some()) => {
                return Ok(());
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
            Ok(()) => {
                Peer::tell(request.extensions_mut());
                Box::pin(self.inner.call(request))
            }
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}
