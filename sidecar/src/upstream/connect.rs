//! Opens TCP connections.

use std::io;
use std::iter;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::net::TcpStream;

use super::race::race;
use crate::outcome::ClusterCounters;
use crate::tls::ConnectFailure;

/// Silence after which the kernel asks whether the peer is still there, and between its questions.
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Longest time that sent bytes may stay without an ACK.
const UNACKNOWLEDGED_TIME: Duration = Duration::from_secs(20);

/// A connection that could not be opened. Nothing was sent.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Refused(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] Box<ConnectFailure>),
    #[error("the connection that others opened and this one waited for did not come about")]
    Shared,
    #[error("all {0} connections that the cluster may have are open")]
    Overflow(u32),
}

/// Counts an open connection until it is dropped.
pub struct OpenConnection {
    counters: Arc<ClusterCounters>,
    worker: usize,
}

impl OpenConnection {
    fn begin(counters: &Arc<ClusterCounters>, worker: usize) -> Self {
        counters.slot(worker).connected();
        Self { counters: Arc::clone(counters), worker }
    }
}

impl OpenConnection {
    /// Its peer has vanished.
    pub fn lost(&self) {
        self.counters.slot(self.worker).connection_lost();
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.counters.slot(self.worker).disconnected();
    }
}

/// Opens a connection and counts it. `others` are further addresses of the same peer.
pub async fn connect(
    address: SocketAddr,
    others: &[SocketAddr],
    timeout: Duration,
    counters: &Arc<ClusterCounters>,
    worker: usize,
) -> Result<(TcpStream, OpenConnection), ConnectError> {
    match open(address, others, timeout).await {
        Ok(stream) => Ok((stream, OpenConnection::begin(counters, worker))),
        Err(error) => {
            counters.slot(worker).connect_failed();
            Err(error)
        }
    }
}

/// Opens a connection with the options that all upstream connections have. All addresses together
/// have the time.
pub async fn open(
    address: SocketAddr,
    others: &[SocketAddr],
    timeout: Duration,
) -> Result<TcpStream, ConnectError> {
    let connecting = async {
        if others.is_empty() {
            return TcpStream::connect(address).await;
        }
        let addresses = iter::once(address).chain(others.iter().copied());
        // Rare, and not worth its room in each request.
        Box::pin(race(addresses, TcpStream::connect)).await
    };
    let stream = tokio::time::timeout(timeout, connecting)
        .await
        .map_err(|_| ConnectError::Timeout(timeout))??;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&keepalive)?;
    // Questions rest while sent bytes wait for their ACK; without this a host that vanished is given
    // up only after a quarter of an hour.
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIME))?;
    Ok(stream)
}
