//! The handshake with an upstream.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use rustls::pki_types::ServerName;
use segue_shared::tls::{Expected, Svid};
use segue_sidecar_core::snapshot::UpstreamTls;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::handshakes::End;
use super::identity::{Alpn, IdentityError};
use super::mesh::Mesh;
use super::socket::Socket;

/// A handshake that did not come about. No byte of a request was sent.
#[derive(Debug, Error)]
pub enum ConnectFailure {
    #[error("this sidecar has no identity yet to show to the mesh")]
    NoIdentity,
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("TLS: {0}")]
    Handshake(#[from] io::Error),
    #[error("the session that is resumed is older than its certificates")]
    Expired,
    #[error("the upstream does not speak {0:?}")]
    Protocol(Alpn),
}

/// Shakes hands with an upstream; also how long both certificates count.
pub async fn originate(
    mesh: &Mesh,
    tls: &UpstreamTls,
    alpn: Alpn,
    stream: TcpStream,
    address: SocketAddr,
) -> Result<(Socket, Duration), ConnectFailure> {
    let refused = |reason, error: &str| {
        mesh.handshakes.refused(End::Client, address, reason, error);
    };
    let Some(identity) = mesh.identity() else {
        refused("no_identity", "there is no identity yet");
        return Err(ConnectFailure::NoIdentity);
    };
    let client = identity.client(&Expected::OneOf(tls.peers.clone()), alpn)?;
    // What is sent as SNI says whose session may be resumed; who answers is judged by certificate.
    let name = tls.server_name.as_deref().and_then(|name| ServerName::try_from(name).ok());
    let name = name.map_or_else(|| ServerName::from(address.ip()), |name| name.to_owned());
    let stream = TlsConnector::from(client).connect(name, stream).await.inspect_err(|error| {
        mesh.handshakes.failed(End::Client, address, error);
    })?;
    let session = stream.get_ref().1;
    if session.alpn_protocol().and_then(Alpn::of) != Some(alpn) {
        refused("application_protocol", "the upstream speaks another protocol");
        return Err(ConnectFailure::Protocol(alpn));
    }
    let leaf = session.peer_certificates().and_then(<[_]>::first);
    let now = SystemTime::now();
    let peers = leaf.and_then(|leaf| Svid::read(leaf).ok());
    let peers = peers.and_then(|svid| svid.not_after.duration_since(now).ok());
    let left = peers.unwrap_or_default().min(identity.left(now));
    if left.is_zero() {
        refused("expired", "the session that is resumed is older than its certificates");
        return Err(ConnectFailure::Expired);
    }
    mesh.handshakes.done(End::Client, session.handshake_kind());
    Ok((Socket::Tls(Box::new(stream.into())), left))
}
