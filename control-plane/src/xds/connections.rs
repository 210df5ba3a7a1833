//! Connections to the xDS port: how many there are, and the way to cut one whose client takes
//! nothing.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt as _};
use segue_shared::shutdown::DrainSignal;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use crate::access::{Arrival, Peer, Wire};
use crate::metrics::StreamMetrics;

/// Connections that wait to be accepted, where the system allows it: after a restart all clients
/// come at once, and beyond tokio's 128 they are reset.
const BACKLOG: u32 = 8192;

/// Listens where a whole fleet may connect at one time.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As tokio does: a restart need not wait for old connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The open connections; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    most: usize,
    metrics: StreamMetrics,
    open: Mutex<HashMap<SocketAddr, DrainSignal>>,
}

/// A client's connection. Counts until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    io: Wire,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    peer: Peer,
    shared: Arc<Shared>,
}

impl Connections {
    /// At most `most` connections at one time.
    pub fn new(most: u32, metrics: StreamMetrics) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Self { shared: Arc::new(Shared { most, metrics, open: Mutex::default() }) }
    }

    /// Connections as they come. Those beyond the limit are closed at once, so that their clients
    /// turn to another control plane instead of waiting for this one.
    pub fn accept<S: Stream<Item = Arrival>>(
        &self,
        arrivals: S,
    ) -> impl Stream<Item = io::Result<Connection>> + use<S> {
        let shared = Arc::clone(&self.shared);
        arrivals.filter_map(move |Arrival { wire, peer }| {
            std::future::ready(Connection::enter(&shared, wire, peer).map(Ok))
        })
    }

    /// Ends a connection with all its streams.
    pub fn cut(&self, peer: SocketAddr) {
        if let Some(connection) = self.shared.open().get(&peer) {
            connection.cancel();
        }
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, HashMap<SocketAddr, DrainSignal>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn enter(shared: &Arc<Shared>, io: Wire, peer: Peer) -> Option<Self> {
        let mut open = shared.open();
        if open.len() >= shared.most {
            shared.metrics.refused("connections");
            return None;
        }
        let signal = DrainSignal::new();
        let cut = Box::pin(signal.clone().cancelled_owned());
        open.insert(peer.address, signal);
        drop(open);
        shared.metrics.connections.inc();
        Some(Self { io, cut, peer, shared: Arc::clone(shared) })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.open().remove(&self.peer.address);
        self.shared.metrics.connections.dec();
    }
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
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
