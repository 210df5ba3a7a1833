//! One question to one endpoint: are you well? Each probe has a connection of its own, so that one
//! which hangs is never mistaken for an endpoint that does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use segue_sidecar_core::snapshot::{ProbeKind, UpstreamTls};
use thiserror::Error;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;

use crate::tls::{Alpn, Mesh, Socket, originate};
use crate::upstream::{ConnectError, open};

/// Why a probe did not pass.
#[derive(Debug, Error)]
pub enum ProbeError {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("{0}")]
    Transport(#[from] tonic::transport::Error),
    #[error("{0}")]
    Grpc(#[from] Box<tonic::Status>),
    #[error("the server says {0}")]
    NotServing(&'static str),
    #[error("{0}")]
    Request(#[from] http::Error),
}

/// How an endpoint is reached.
#[derive(Clone)]
pub struct Reach {
    pub address: SocketAddr,
    pub tls: Option<Arc<UpstreamTls>>,
    pub mesh: Mesh,
}

impl Reach {
    async fn open(&self, alpn: Alpn, timeout: Duration) -> Result<Socket, ConnectError> {
        let stream = open(self.address, &[], timeout).await?;
        let Some(tls) = &self.tls else { return Ok(Socket::Plain(stream)) };
        let secured = originate(&self.mesh, tls, alpn, stream, self.address).await;
        secured.map(|(socket, _)| socket).map_err(|failure| Box::new(failure).into())
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// Asks once; an error where the endpoint is not well.
pub async fn probe(kind: &ProbeKind, reach: &Reach, timeout: Duration) -> Result<(), ProbeError> {
    let address = reach.address;
    let asking = async {
        match kind {
            ProbeKind::Tcp => {
                reach.open(Alpn::Tcp, timeout).await.map(drop).map_err(ProbeError::from)
            }
            ProbeKind::Http { host, path, http2, expected } => {
                let host = host.clone().unwrap_or_else(|| authority(address));
                let status = get(reach, host, path.as_str(), *http2, timeout).await?;
                let code = i64::from(status.as_u16());
                let good = expected.iter().any(|range| range.contains(&code));
                if good { Ok(()) } else { Err(ProbeError::Status(status)) }
            }
            ProbeKind::Grpc { authority, service } => {
                check(reach, authority.as_ref(), service, timeout).await
            }
        }
    };
    tokio::time::timeout(timeout, asking).await.unwrap_or(Err(ProbeError::Timeout(timeout)))
}

async fn get(
    reach: &Reach,
    host: HeaderValue,
    path: &str,
    is_http2: bool,
    timeout: Duration,
) -> Result<StatusCode, ProbeError> {
    let alpn = if is_http2 { Alpn::Http2 } else { Alpn::Http1 };
    let io = TokioIo::new(reach.open(alpn, timeout).await?);
    let request = Request::builder().method(Method::GET).header(USER_AGENT, "segue-health");
    if is_http2 {
        let uri =
            Uri::builder().scheme(reach.scheme()).authority(host.as_bytes()).path_and_query(path);
        let request = request.uri(uri.build()?).body(Empty::<Bytes>::new())?;
        let (mut sender, driver) = http2::handshake(TokioExecutor::new(), io).await?;
        driven(driver, sender.send_request(request)).await
    } else {
        let request = request.uri(path).header(HOST, host).body(Empty::<Bytes>::new())?;
        let (mut sender, driver) = http1::handshake(io).await?;
        driven(driver, sender.send_request(request)).await
    }
}

/// The status of an answer, for which the connection has to be driven.
async fn driven<B>(
    driver: impl Future<Output = hyper::Result<()>>,
    asking: impl Future<Output = hyper::Result<http::Response<B>>>,
) -> Result<StatusCode, ProbeError> {
    let driver = async {
        let ended = driver.await;
        // The answer tells what went wrong, or is there already.
        drop(ended);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = asking => Ok(answer?.status()),
        () = driver => Err(ProbeError::NotServing("nothing")),
    }
}

async fn check(
    reach: &Reach,
    authority: Option<&HeaderValue>,
    service: &str,
    timeout: Duration,
) -> Result<(), ProbeError> {
    let uri =
        Uri::builder().scheme("http").authority(reach.address.to_string()).path_and_query("/");
    let mut endpoint = Endpoint::from(uri.build()?).connect_timeout(timeout);
    if let Some(authority) = authority {
        let origin = Uri::builder().scheme("http").authority(authority.as_bytes());
        endpoint = endpoint.origin(origin.path_and_query("/").build()?);
    }
    let reach = reach.clone();
    // What speaks TLS, if anything does, is below.
    let connector = service_fn(move |_: Uri| {
        let reach = reach.clone();
        async move { reach.open(Alpn::Http2, timeout).await.map(TokioIo::new) }
    });
    let mut client = HealthClient::new(endpoint.connect_with_connector(connector).await?);
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = client.check(request).await.map_err(Box::new)?;
    match answer.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        other => Err(ProbeError::NotServing(other.as_str_name())),
    }
}

/// An address is always a valid value of a header.
fn authority(address: SocketAddr) -> HeaderValue {
    HeaderValue::from_str(&address.to_string()).unwrap_or(HeaderValue::from_static("localhost"))
}
