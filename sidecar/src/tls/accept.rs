//! The handshake with a caller.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use segue_shared::tls::Svid;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::handshakes::End;
use super::identity::Alpn;
use super::mesh::Mesh;
use super::socket::Socket;

/// Time for a handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// A caller that is believed.
pub struct Accepted {
    pub socket: Socket,
    pub caller: Svid,
    /// `None`: it did not say what it speaks.
    pub alpn: Option<Alpn>,
    /// How long both certificates count.
    pub left: Duration,
}

/// Shakes hands. `None`: the caller was refused, which is counted and told.
pub async fn accept(mesh: &Mesh, stream: TcpStream, address: SocketAddr) -> Option<Accepted> {
    let Some(identity) = mesh.identity() else {
        mesh.handshakes.refused(End::Server, address, "no_identity", "there is no identity yet");
        return None;
    };
    let acceptor = TlsAcceptor::from(identity.server());
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let shaken = timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await;
    let stream = match shaken.unwrap_or_else(|_| Err(late())) {
        Ok(stream) => stream,
        Err(error) => {
            mesh.handshakes.failed(End::Server, address, &error);
            return None;
        }
    };
    let session = stream.get_ref().1;
    let leaf = session.peer_certificates().and_then(<[_]>::first);
    // The verifier has read it, or that of the session which this one resumes.
    let caller = leaf.and_then(|leaf| Svid::read(leaf).ok());
    let now = SystemTime::now();
    let left = |svid: &Svid| svid.not_after.duration_since(now).unwrap_or_default();
    let both = caller.as_ref().map(|caller| left(caller).min(identity.left(now)));
    let (Some(caller), Some(left)) = (caller, both.filter(|left| !left.is_zero())) else {
        let error = "the session that is resumed is older than its certificates";
        mesh.handshakes.refused(End::Server, address, "expired", error);
        return None;
    };
    let alpn = session.alpn_protocol().and_then(Alpn::of);
    mesh.handshakes.done(End::Server, session.handshake_kind());
    let socket = Socket::Tls(Box::new(stream.into()));
    Some(Accepted { socket, caller, alpn, left })
}

impl Accepted {
    /// Who called.
    pub fn identity(&self) -> Arc<str> {
        self.caller.id.to_string().into()
    }
}
