//! The door of the admin port: every call is somebody's, has a role, and takes a place.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower_layer::Layer;
use tower_service::Service;

use super::audit::AuditLog;
use super::caller::{Call, Caller};
use super::credentials::{Presented, Unreadable, presented};
use super::crowd::{Crowd, Key, MOST_EACH, Place};
use super::held::{Held, Rights};
use super::list::AccessList;
use super::method::Method;
use super::metrics::{AccessMetrics, Port, Refusal};
use super::pace::Pace;
use super::peer::Peer;

const HOW_TO: &str = "send `authorization: Bearer TOKEN` (segue: --token-file FILE, \
     SEGUE_TOKEN_FILE or SEGUE_TOKEN); without --access-file the control plane keeps a token in \
     DATA_DIR/operator.token";

/// The layer before the services of the admin port. Services find the [`Call`] in the extensions of
/// each request.
#[derive(Clone)]
pub struct AdminGate {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None`: callers are not authenticated (`--insecure-dev`).
    list: Option<Arc<ArcSwap<AccessList>>>,
    audit: AuditLog,
    metrics: AccessMetrics,
    crowd: Crowd,
    pace: Pace,
}

/// A caller who was let in.
struct Admitted {
    caller: Arc<Caller>,
    /// To be asked again while the answer lasts.
    rights: Option<Rights>,
}

/// A caller who was not.
struct Refused {
    reason: Refusal,
    status: Status,
    /// Who it was, as far as that is known.
    caller: Option<Arc<Caller>>,
}

impl AdminGate {
    /// `list` is absent where callers are not authenticated.
    pub fn new(
        list: Option<Arc<ArcSwap<AccessList>>>,
        audit: AuditLog,
        metrics: AccessMetrics,
    ) -> Self {
        let (crowd, pace) = (Crowd::default(), Pace::of_logs());
        let inner = Inner { list, audit, metrics, crowd, pace };
        Self { inner: Arc::new(inner) }
    }
}

impl Inner {
    fn admit(
        &self,
        method: Method,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<Admitted, Refused> {
        let Some(role) = method.role else {
            return Ok(Admitted { caller: Arc::new(Caller::nobody()), rights: None });
        };
        let Some(list) = &self.list else {
            return Ok(Admitted { caller: Arc::new(Caller::anyone()), rights: None });
        };
        let seen = list.load_full();
        let certificate = peer.and_then(|peer| peer.certificate.as_deref());
        let entry = match presented(headers) {
            Ok(Presented::Token(token)) => seen
                .by_token(token)
                .ok_or((Refusal::WrongToken, "the token is nobody's (it may have been replaced)")),
            Ok(Presented::Nothing) => match certificate {
                Some(certificate) => seen.by_certificate(certificate).ok_or((
                    Refusal::UnknownCertificate,
                    "the client certificate is nobody's of the access file",
                )),
                None => Err((Refusal::NoCredential, "no token was sent")),
            },
            Err(Unreadable) => Err((Refusal::WrongToken, "the authorization is no Bearer token")),
        };
        let entry = entry.map_err(|(reason, text)| Refused {
            reason,
            status: Status::unauthenticated(format!("{text}: {HOW_TO}")),
            caller: None,
        })?;
        let caller = Arc::clone(&entry.caller);
        if caller.role < role {
            let (name, has) = (&caller.name, caller.role);
            let text = format!("{name} has the role {has}, and this takes the role {role}");
            let status = Status::permission_denied(text);
            return Err(Refused { reason: Refusal::Role, status, caller: Some(caller) });
        }
        let (entry, list) = (entry.clone(), Arc::clone(list));
        Ok(Admitted { caller, rights: Some(Rights { entry, seen, list }) })
    }

    fn place(&self, caller: &Caller, method: Method, peer: Option<&Peer>) -> Result<Place, Status> {
        let key = match (caller.name.as_str(), method.role) {
            ("", _) | (_, None) => Key::Address(peer.map(|peer| peer.address.ip())),
            (name, Some(_)) => Key::Name(name.to_owned()),
        };
        self.crowd.enter(key, method.streams).ok_or_else(|| {
            let what = if method.streams { "watches and waits" } else { "calls" };
            Status::resource_exhausted(format!(
                "{MOST_EACH} {what} of this caller are in flight: try again when one has ended"
            ))
        })
    }

    fn refuse(&self, path: &str, peer: Option<&Peer>, refused: Refused) -> Response<Body> {
        self.metrics.refused(Port::Admin, refused.reason);
        if self.pace.allows() {
            let caller = refused.caller.as_ref().map(|caller| caller.name.as_str());
            tracing::warn!(
                address = ?peer.map(|peer| peer.address),
                caller,
                method = %path.escape_debug(),
                reason = refused.reason.as_str(),
                "a call was refused"
            );
        }
        let (caller, code) = (refused.caller.as_ref(), refused.status.code());
        self.audit.refused(path, caller, peer, code, refused.reason.as_str());
        refused.status.into_http()
    }

    async fn answer<S>(
        &self,
        mut inner: S,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>>,
    {
        let method = Method::of(request.uri().path());
        let path = request.uri().path().to_owned();
        let peer = request.extensions().get::<Peer>().cloned();
        let admitted = match self.admit(method, request.headers(), peer.as_ref()) {
            Ok(admitted) => admitted,
            Err(refused) => return Ok(self.refuse(&path, peer.as_ref(), refused)),
        };
        let place = match self.place(&admitted.caller, method, peer.as_ref()) {
            Ok(place) => place,
            Err(status) => {
                let caller = Some(admitted.caller);
                let refused = Refused { reason: Refusal::Busy, status, caller };
                return Ok(self.refuse(&path, peer.as_ref(), refused));
            }
        };
        Peer::tell(request.extensions_mut());
        let call = Call::new(admitted.caller);
        let entry = method.audited.then(|| self.audit.begin(&path, &call, peer.as_ref()));
        request.extensions_mut().insert(call);
        if let Some(rights) = admitted.rights.clone() {
            request.extensions_mut().insert(rights);
        }
        let answer = match method.deadline() {
            None => inner.call(request).await?,
            Some(limit) => {
                if let Ok(answer) = tokio::time::timeout(limit, inner.call(request)).await {
                    answer?
                } else {
                    self.metrics.refused(Port::Admin, Refusal::Deadline);
                    let text = format!(
                        "no answer within {limit:?}; whether a change was made is told by its \
                         history"
                    );
                    Status::deadline_exceeded(text).into_http()
                }
            }
        };
        let code = Status::from_header_map(answer.headers()).map_or(Code::Ok, |it| it.code());
        if code == Code::PermissionDenied {
            self.metrics.refused(Port::Admin, Refusal::Namespace);
        }
        if let Some(entry) = entry {
            entry.end(code);
        }
        Ok(answer.map(|body| Body::new(Held::new(body, place, admitted.rights))))
    }
}

impl<S> Layer<S> for AdminGate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: Arc::clone(&self.inner), inner }
    }
}

/// Services behind an [`AdminGate`].
#[derive(Clone)]
pub struct Gated<S> {
    gate: Arc<Inner>,
    inner: S,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that was asked whether it is ready is the one that is called.
        let next = self.inner.clone();
        let inner = mem::replace(&mut self.inner, next);
        let gate = Arc::clone(&self.gate);
        Box::pin(async move { gate.answer(inner, request).await })
    }
}
