//! The other end of a connection, as calls on it see it.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Extensions;
use segue_shared::spiffe::SpiffeId;
use tonic::transport::server::TcpConnectInfo;

/// Who is connected, as far as the connection says.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    /// What a certificate that was verified says; `None` without one.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The workload that it is, by a certificate that the mesh's own authority gave it.
    pub identity: Option<Arc<SpiffeId>>,
}

/// The names in a client's certificate, which an authority of the port has signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    pub uris: Vec<String>,
    pub dns_names: Vec<String>,
}

impl Peer {
    /// Lets `Request::remote_addr` of the services behind know the address.
    pub fn tell(extensions: &mut Extensions) {
        if let Some(peer) = extensions.get::<Self>() {
            let remote_addr = Some(peer.address);
            extensions.insert(TcpConnectInfo { local_addr: None, remote_addr });
        }
    }
}
