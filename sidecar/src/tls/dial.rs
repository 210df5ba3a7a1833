//! Connections for clients of gRPC that are not on the way of a request.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::socket::Socket;

const HTTPS_PORT: u16 = 443;

/// Connects to the host of a URI with TLS, whatever its scheme says.
pub async fn dial(tls: Arc<ClientConfig>, uri: Uri, time: Duration) -> io::Result<TokioIo<Socket>> {
    let host = uri.host().unwrap_or_default();
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(HTTPS_PORT);
    let server = ServerName::try_from(name.to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let connecting = async {
        let stream = TcpStream::connect((name, port)).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(tls).connect(server, stream).await
    };
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let stream = timeout(time, connecting).await.map_err(late)??;
    Ok(TokioIo::new(Socket::Tls(Box::new(stream.into()))))
}
