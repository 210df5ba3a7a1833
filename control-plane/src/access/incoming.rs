//! Connections of a gRPC port, with who is at their other end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tonic::transport::server::Connected;

use super::metrics::{AccessMetrics, Port};
use super::pace::Pace;
use super::peer::Peer;
use super::tls::{PortTls, names};
use super::wire::Wire;

/// Pause after a failed accept, such as without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at one time; further connections wait in the system's queue.
const MOST_HANDSHAKES: usize = 256;
/// Connections of the admin port.
const MOST_CONNECTIONS: usize = 1024;

/// How connections of a port begin.
#[derive(Clone, Debug)]
pub struct Threshold {
    port: Port,
    tls: Option<PortTls>,
    metrics: AccessMetrics,
    pace: Arc<Pace>,
}

/// A connection that may carry calls.
#[derive(Debug)]
pub struct Arrival {
    pub wire: Wire,
    pub peer: Peer,
}

impl Threshold {
    pub fn new(port: Port, tls: Option<PortTls>, metrics: AccessMetrics) -> Self {
        Self { port, tls, metrics, pace: Arc::new(Pace::of_logs()) }
    }

    /// Plain text, for everybody.
    pub fn plain(port: Port) -> Self {
        Self::new(port, None, AccessMetrics::default())
    }

    /// Connections as they come, those with TLS after their handshake. Ends with its reader.
    pub fn arrivals(self, listener: TcpListener) -> impl Stream<Item = Arrival> + Send {
        async_stream::stream! {
            let mut shaking = JoinSet::new();
            loop {
                // The outcome is yielded outside of the choice.
                let arrival = tokio::select! {
                    accepted = listener.accept(), if shaking.len() < MOST_HANDSHAKES => {
                        self.begin(accepted, &mut shaking).await
                    }
                    Some(shaken) = shaking.join_next() => shaken.ok().flatten(),
                };
                if let Some(arrival) = arrival {
                    yield arrival;
                }
            }
        }
    }

    async fn begin(
        &self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
        shaking: &mut JoinSet<Option<Arrival>>,
    ) -> Option<Arrival> {
        let (io, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, port = self.port.as_str(), "a port cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                return None;
            }
        };
        // Answers are whole messages: nothing follows that would be worth waiting for.
        if let Err(error) = io.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        let Some(tls) = &self.tls else {
            let peer = Peer { address, certificate: None };
            return Some(Arrival { wire: Wire::Plain(io), peer });
        };
        let acceptor = TlsAcceptor::from(tls.load_full());
        shaking.spawn(self.clone().shake(acceptor, io, address));
        None
    }

    async fn shake(self, tls: TlsAcceptor, io: TcpStream, address: SocketAddr) -> Option<Arrival> {
        let shaken = match timeout(HANDSHAKE, tls.accept(io)).await {
            Ok(Ok(shaken)) => shaken,
            Ok(Err(error)) => {
                let reason = if is_plain_text(&error) { "plain_text" } else { "handshake" };
                return self.refuse(address, reason, &error.to_string());
            }
            Err(_) => return self.refuse(address, "timeout", "the handshake took too long"),
        };
        let certificate = match shaken.get_ref().1.peer_certificates() {
            None => None,
            Some(chain) => match names(chain) {
                Some(names) => Some(Arc::new(names)),
                None => return self.refuse(address, "chain", "an unusable client certificate"),
            },
        };
        let wire = Wire::Encrypted(Box::new(shaken));
        Some(Arrival { wire, peer: Peer { address, certificate } })
    }

    fn refuse(&self, address: SocketAddr, reason: &'static str, error: &str) -> Option<Arrival> {
        self.metrics.refused_connection(self.port, reason);
        if self.pace.allows() {
            let port = self.port.as_str();
            tracing::warn!(%address, port, reason, error, "a connection was refused");
        }
        None
    }
}

/// A client that did not begin with TLS.
fn is_plain_text(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)))
}

/// A connection of the admin port; takes its place until it is dropped.
pub struct Connection {
    wire: Wire,
    peer: Peer,
    #[allow(dead_code, reason = "held for its drop")]
    place: OwnedSemaphorePermit,
}

/// Connections of the admin port. Those beyond the limit are closed at once.
pub fn connections(
    threshold: Threshold,
    listener: TcpListener,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let metrics = threshold.metrics.clone();
    threshold.arrivals(listener).filter_map(move |Arrival { wire, peer }| {
        let place = Arc::clone(&places).try_acquire_owned();
        if place.is_err() {
            metrics.refused_connection(Port::Admin, "connections");
        }
        std::future::ready(place.ok().map(|place| Ok(Connection { wire, peer, place })))
    })
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(context)
    }
}
