//! Connections of a gRPC port, with who is at their other end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_util::either::Either;

use super::connections::{Connections, Full, Place};
use super::endings::Endings;
use super::metrics::{AccessMetrics, Port};
use super::peer::Peer;
use super::tls::{Certified, PortTls, Shown};
use super::wire::{Belief, Wire};

/// Pause after a failed accept, such as without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at one time; further connections wait in the system's queue.
const MOST_HANDSHAKES: usize = 256;

/// How connections of a port begin.
#[derive(Clone, Debug)]
pub struct Threshold {
    tls: Option<PortTls>,
    endings: Endings,
}

impl Threshold {
    pub fn new(port: Port, tls: Option<PortTls>, metrics: AccessMetrics) -> Self {
        Self { tls, endings: Endings::of(port, metrics) }
    }

    /// Plain text, for everybody.
    pub fn plain(port: Port) -> Self {
        Self::new(port, None, AccessMetrics::default())
    }

    /// Connections as they come, those with TLS after their handshake. Those that have no place
    /// among `connections` are closed at once, so that their clients turn to another control plane
    /// instead of waiting for this one. Ends with its reader.
    pub fn arrivals(
        self,
        listener: TcpListener,
        connections: Connections,
    ) -> impl Stream<Item = io::Result<Wire>> + Send {
        async_stream::stream! {
            let mut shaking = JoinSet::new();
            loop {
                // The outcome is yielded outside of the choice.
                let wire = tokio::select! {
                    accepted = listener.accept(), if shaking.len() < MOST_HANDSHAKES => {
                        self.begin(accepted, &connections, &mut shaking).await
                    }
                    Some(shaken) = shaking.join_next() => shaken.ok().flatten(),
                };
                if let Some(wire) = wire {
                    yield Ok(wire);
                }
            }
        }
    }

    async fn begin(
        &self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
        connections: &Connections,
        shaking: &mut JoinSet<Option<Wire>>,
    ) -> Option<Wire> {
        let (io, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, port = self.endings.port().as_str(), "a port cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                return None;
            }
        };
        let place = match connections.enter(address) {
            Ok(place) => place,
            Err(Full(reason)) => {
                return self.refuse(address, reason, "there are as many as there may be");
            }
        };
        // Answers are whole messages: nothing follows that would be worth waiting for.
        if let Err(error) = io.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        let Some(tls) = &self.tls else {
            let peer = Peer { address, certificate: None, identity: None };
            return Some(Wire::new(
                Either::Left(io),
                peer,
                place,
                self.endings.clone(),
                Belief::default(),
            ));
        };
        shaking.spawn(self.clone().shake(tls.load_full(), io, place, address));
        None
    }

    async fn shake(
        self,
        tls: Arc<Shown>,
        io: TcpStream,
        place: Place,
        address: SocketAddr,
    ) -> Option<Wire> {
        let acceptor = TlsAcceptor::from(Arc::clone(&tls.config));
        let shaken = match timeout(HANDSHAKE, acceptor.accept(io)).await {
            Ok(Ok(shaken)) => shaken,
            Ok(Err(error)) => {
                let reason = if is_plain_text(&error) { "plain_text" } else { "handshake" };
                return self.refuse(address, reason, &error.to_string());
            }
            Err(_) => return self.refuse(address, "timeout", "the handshake took too long"),
        };
        let (shown, belief) = match shaken.get_ref().1.peer_certificates() {
            None => (Certified::default(), Belief::default()),
            Some(chain) => match tls.certified(chain).zip(tls.belief(chain)) {
                Some(believed) => believed,
                None => return self.refuse(address, "chain", "an unusable client certificate"),
            },
        };
        let Certified { names, identity } = shown;
        let (certificate, identity) = (names.map(Arc::new), identity.map(Arc::new));
        let peer = Peer { address, certificate, identity };
        Some(Wire::new(Either::Right(Box::new(shaken)), peer, place, self.endings, belief))
    }

    fn refuse(&self, address: SocketAddr, reason: &'static str, error: &str) -> Option<Wire> {
        self.endings.refused(address, reason, error);
        None
    }
}

/// A client that did not begin with TLS.
fn is_plain_text(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)))
}
