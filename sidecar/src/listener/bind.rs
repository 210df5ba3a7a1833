//! One listening socket for each worker, all on one port.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// Listening sockets of one name.
pub struct Listener {
    /// Where they listen; never port 0.
    pub address: SocketAddr,
    /// One for each worker.
    pub sockets: Vec<TcpListener>,
}

/// A socket that cannot listen.
#[derive(Debug, Error)]
pub enum BindError {
    #[error("cannot listen on {address} for {name}: {reason}")]
    Listen { name: &'static str, address: SocketAddr, reason: io::Error },
    #[error(
        "the running sidecar listens on {runs} for {name}, and this one shall on {address}: an \
         address cannot change while a place is taken; restart it without taking over"
    )]
    Moved { name: &'static str, runs: SocketAddr, address: SocketAddr },
}

/// Goes on with sockets that another process listened on, and more of them where there are fewer
/// than `count`; where there are more, all are kept, since callers may wait in each one's queue.
pub fn adopt(
    name: &'static str,
    address: SocketAddr,
    mut sockets: Vec<TcpListener>,
    count: usize,
) -> Result<Listener, BindError> {
    let Some(first) = sockets.first() else { return bind(name, address, count) };
    let runs = first.local_addr().map_err(|reason| BindError::Listen { name, address, reason })?;
    let same_port = address.port() == 0 || address.port() == runs.port();
    if !same_port || address.ip() != runs.ip() {
        return Err(BindError::Moved { name, runs, address });
    }
    let fail = |reason| BindError::Listen { name, address: runs, reason };
    while sockets.len() < count {
        let socket = open(runs, true).map_err(fail)?;
        Socket::from(socket.try_clone().map_err(fail)?).listen(BACKLOG).map_err(fail)?;
        sockets.push(socket);
    }
    Ok(Listener { address: runs, sockets })
}

/// Binds `count` sockets to one address. With port 0 all share the port that the first one got.
pub fn bind(name: &'static str, address: SocketAddr, count: usize) -> Result<Listener, BindError> {
    let fail = |reason| BindError::Listen { name, address, reason };
    // The first one without SO_REUSEPORT would keep the others out; with it, a second process could
    // join by mistake. A probe without it tells the two apart.
    if address.port() != 0 {
        open(address, false).map_err(fail)?;
    }
    let first = open(address, true).map_err(fail)?;
    let address = first.local_addr().map_err(fail)?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(open(address, true).map_err(fail)?);
    }
    for socket in &sockets {
        Socket::from(socket.try_clone().map_err(fail)?).listen(BACKLOG).map_err(fail)?;
    }
    Ok(Listener { address, sockets })
}

fn open(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sockets_share_the_port_that_the_first_got() {
        let listener = bind("test", ([127, 0, 0, 1], 0).into(), 3).unwrap();
        assert_ne!(listener.address.port(), 0);
        let port = |socket: &TcpListener| socket.local_addr().unwrap().port();
        assert!(listener.sockets.iter().all(|socket| port(socket) == listener.address.port()));
    }

    #[test]
    fn adopted_sockets_are_all_kept_and_others_join_them() {
        let any = ([127, 0, 0, 1], 0).into();
        let old = bind("test", any, 3).unwrap();
        let fewer = adopt("test", old.address, old.sockets, 2).unwrap();
        assert_eq!((fewer.address, fewer.sockets.len()), (old.address, 3));
        let more = adopt("test", any, fewer.sockets, 5).unwrap();
        assert_eq!((more.address, more.sockets.len()), (old.address, 5));
        let elsewhere = ([127, 0, 0, 1], 1).into();
        let error = adopt("outbound", elsewhere, more.sockets, 1).err().unwrap().to_string();
        assert!(error.contains("outbound") && error.contains("127.0.0.1:1:"), "{error}");
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = bind("test", ([127, 0, 0, 1], 0).into(), 1).unwrap();
        let error = bind("outbound", taken.address, 1).err().unwrap().to_string();
        assert!(error.contains("outbound") && error.contains(&taken.address.to_string()));
    }
}
