//! Connections to one endpoint of one cluster, on one worker.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use segue_sidecar_core::balance::mixed;
use segue_sidecar_core::snapshot::{Cluster, UpstreamTls};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::connect::{ConnectError, OpenConnection, connect};
use super::http1::{Home, Http1Connection};
use super::http2::Http2Connection;
use crate::outcome::ClusterCounters;
use crate::tls::{Alpn, Mesh, Socket, originate};

/// Idle HTTP/1.1 connections kept to one endpoint by one worker.
const MOST_IDLE: usize = 256;
/// Part of the time that certificates count for after which a connection takes no new requests.
const SHARE_OF_CERTIFICATES: f64 = 0.9;
/// An age that no connection reaches.
const FAR_OFF: Duration = Duration::from_hours(24 * 365);
/// Rest after which an upstream may well have closed a connection.
const RESTED: Duration = Duration::from_millis(50);
/// Rest after which an upstream may be about to close a connection: the shortest default of those
/// that are common is 5 s (Node.js).
const LONG_RESTED: Duration = Duration::from_secs(4);

/// The pool of one endpoint.
pub struct EndpointPool {
    address: SocketAddr,
    /// Further addresses of the same instance, as the newest snapshot has them.
    others: RefCell<Arc<[SocketAddr]>>,
    worker: usize,
    counters: Arc<ClusterCounters>,
    mesh: Mesh,
    /// Set when no snapshot names the endpoint any more: what runs ends, nothing is kept.
    retired: Cell<bool>,
    /// The last one used is the first one taken, so that a few stay warm and the rest can go.
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Rc<Http2Connection>>>,
    /// Held while an HTTP/2 connection is opened: those who wait for it then share it.
    opening: Mutex<()>,
    /// When an HTTP/2 connection last could not be opened: those who waited for it share that too.
    failed: Cell<Option<Instant>>,
    /// Connections opened so far.
    opened: Cell<u64>,
}

/// A new connection.
struct Connected {
    socket: Socket,
    open: OpenConnection,
    /// When it takes no new requests.
    aged: Instant,
}

struct Idle {
    connection: Http1Connection,
    since: Instant,
}

impl EndpointPool {
    /// An empty pool.
    pub fn new(
        address: SocketAddr,
        worker: usize,
        counters: Arc<ClusterCounters>,
        mesh: Mesh,
    ) -> Self {
        Self {
            address,
            others: RefCell::default(),
            worker,
            counters,
            mesh,
            retired: Cell::new(false),
            idle: RefCell::default(),
            shared: RefCell::default(),
            opening: Mutex::default(),
            failed: Cell::new(None),
            opened: Cell::new(0),
        }
    }

    /// An idle HTTP/1.1 connection that is still open, as far as is known. What must not be sent
    /// twice is `careful`: where a connection rested for a while, news from the system are awaited
    /// first, and one that rested for long is left to others, since a close that is on its way would
    /// meet it.
    pub async fn take_idle(&self, careful: bool) -> Option<Http1Connection> {
        loop {
            let idle = self
                .idle
                .borrow_mut()
                .pop_if(|newest| !careful || newest.since.elapsed() < LONG_RESTED)?;
            if careful && idle.since.elapsed() > RESTED {
                // The runtime looks at its sockets before it comes back.
                tokio::task::yield_now().await;
            }
            if idle.connection.is_usable() {
                return Some(idle.connection);
            }
        }
    }

    /// A new HTTP/1.1 connection.
    pub async fn open_http1(&self, cluster: &Cluster) -> Result<Http1Connection, ConnectError> {
        self.admit(cluster)?;
        let Connected { socket, open, aged } = self.connect(cluster, Alpn::Http1).await?;
        Ok(Http1Connection::begin(socket, open, aged))
    }

    /// A connection of its own for a caller whose bytes are passed on as they are.
    pub async fn open_tcp(
        &self,
        cluster: &Cluster,
    ) -> Result<(Socket, OpenConnection), ConnectError> {
        self.admit(cluster)?;
        let Connected { socket, open, .. } = self.connect(cluster, Alpn::Tcp).await?;
        Ok((socket, open))
    }

    /// The instance is reached at these addresses as well.
    pub fn also_at(&self, others: &Arc<[SocketAddr]>) {
        if *self.others.borrow() != *others {
            self.others.replace(Arc::clone(others));
        }
    }

    async fn connect(&self, cluster: &Cluster, alpn: Alpn) -> Result<Connected, ConnectError> {
        let others = Arc::clone(&self.others.borrow());
        let (timeout, begun) = (cluster.connect_timeout, Instant::now());
        let connecting = connect(self.address, &others, timeout, &self.counters, self.worker);
        let (stream, open) = connecting.await?;
        let aged = self.aged(cluster);
        let Some(tls) = &cluster.tls else {
            return Ok(Connected { socket: Socket::Plain(stream), open, aged });
        };
        // In a box: it is large, and rare beside the requests that a connection serves.
        let securing = Box::pin(self.secure(tls, alpn, stream));
        let secured = timeout_at(begun + timeout, securing).await;
        let secured = secured.unwrap_or(Err(ConnectError::Timeout(timeout)));
        let (socket, left) = secured.inspect_err(|_| {
            self.counters.slot(self.worker).connect_failed();
        })?;
        let until = Instant::now().checked_add(left.mul_f64(SHARE_OF_CERTIFICATES));
        Ok(Connected { socket, open, aged: until.map_or(aged, |until| until.min(aged)) })
    }

    /// The socket once the endpoint is known to be one that was called, and how long its
    /// certificate and ours count.
    async fn secure(
        &self,
        tls: &UpstreamTls,
        alpn: Alpn,
        stream: TcpStream,
    ) -> Result<(Socket, Duration), ConnectError> {
        let originating = originate(&self.mesh, tls, alpn, stream, self.address);
        originating.await.map_err(|failure| Box::new(failure).into())
    }

    /// An HTTP/2 connection with room for one more request; opened where there is none.
    pub async fn http2(&self, cluster: &Cluster) -> Result<Rc<Http2Connection>, ConnectError> {
        if let Some(connection) = self.with_room() {
            return Ok(connection);
        }
        let came = Instant::now();
        let _opening = self.opening.lock().await;
        if let Some(connection) = self.with_room() {
            return Ok(connection);
        }
        if self.failed.get().is_some_and(|failed| failed >= came) {
            return Err(ConnectError::Shared);
        }
        self.admit(cluster)?;
        let connection = self.open_http2(cluster).await.inspect_err(|_| {
            self.failed.set(Some(Instant::now()));
        })?;
        if !self.retired.get() {
            self.shared.borrow_mut().push(Rc::clone(&connection));
        }
        Ok(connection)
    }

    async fn open_http2(&self, cluster: &Cluster) -> Result<Rc<Http2Connection>, ConnectError> {
        let Connected { socket, open, aged } = self.connect(cluster, Alpn::Http2).await?;
        Ok(Http2Connection::begin(socket, open, aged))
    }

    /// Closes what was idle for longer than the cluster allows, and forgets what is closed.
    pub fn tick(&self, now: Instant, cluster: &Cluster) {
        let timeout = cluster.limits.idle_timeout;
        self.idle.borrow_mut().retain(|idle| {
            now.saturating_duration_since(idle.since) < timeout
                && !idle.connection.is_aged(now)
                && idle.connection.is_usable()
        });
        let moment = now.checked_sub(timeout);
        self.shared.borrow_mut().retain(|connection| {
            !connection.is_closed()
                && !connection.ages(now)
                && !moment.is_some_and(|moment| connection.idle_since(moment))
        });
    }

    /// Nothing is kept from now on; requests that run go on.
    pub fn retire(&self) {
        self.retired.set(true);
        self.idle.borrow_mut().clear();
        self.shared.borrow_mut().clear();
    }

    /// When a connection that is opened now is too old: a tenth sooner or later than the cluster
    /// says, so that those of one moment do not all go at one moment.
    fn aged(&self, cluster: &Cluster) -> Instant {
        let turn = self.opened.replace(self.opened.get().wrapping_add(1));
        let draw = mixed(turn ^ (u64::from(self.address.port()) << 32) ^ self.worker as u64);
        let share = 0.9 + 0.2 * (draw >> 11) as f64 / (1u64 << 53) as f64;
        let now = Instant::now();
        now.checked_add(cluster.limits.max_age.mul_f64(share)).unwrap_or(now + FAR_OFF)
    }

    fn with_room(&self) -> Option<Rc<Http2Connection>> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|connection| !connection.is_closed());
        shared.iter().find(|connection| connection.has_room()).cloned()
    }

    fn admit(&self, cluster: &Cluster) -> Result<(), ConnectError> {
        let most = cluster.limits.max_connections;
        if self.counters.admits_connection(self.worker, most) {
            Ok(())
        } else {
            Err(ConnectError::Overflow(most))
        }
    }
}

impl Home for EndpointPool {
    fn give_back(&self, connection: Http1Connection) {
        let mut idle = self.idle.borrow_mut();
        let since = Instant::now();
        if !self.retired.get() && idle.len() < MOST_IDLE && !connection.is_aged(since) {
            idle.push(Idle { connection, since });
        }
    }
}

#[cfg(test)]
mod tests {
    use segue_sidecar_core::snapshot::Endpoint;
    use tokio::net::TcpListener;
    use tokio::time::advance;

    use super::*;
    use crate::outcome::Counters;

    #[tokio::test]
    async fn what_cannot_be_sent_twice_takes_no_connection_that_rested_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let name = Arc::from("chat");
        let counters = Counters::new(1).cluster(&name, None);
        let pool = EndpointPool::new(address, 0, counters, Mesh::default());
        let cluster = Cluster::new(name, [Endpoint::new(address)].into());
        pool.give_back(pool.open_http1(&cluster).await.unwrap());
        let _accepted = listener.accept().await.unwrap();
        tokio::time::pause();
        advance(LONG_RESTED / 2).await;
        let rested = pool.take_idle(true).await.unwrap();
        pool.give_back(rested);
        advance(LONG_RESTED).await;
        assert!(pool.take_idle(true).await.is_none());
        assert!(pool.take_idle(false).await.is_some(), "it is there for others");
    }
}
