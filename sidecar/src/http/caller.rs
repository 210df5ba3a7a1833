//! Who holds a connection, and what the door asks of all requests. Worked out once a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use segue_shared::spiffe::SpiffeId;
use segue_sidecar_core::canonical::{AddressRange, EscapedSlashes, ForwardedHeaders, Peer, Trust};
use segue_sidecar_core::snapshot::InboundMtls;
use tokio::net::TcpStream;

use crate::access_log::AccessLog;
use crate::listener::original_destination;

/// Requests of one connection of a stranger.
pub const MOST_REQUESTS: u64 = 10_000;

/// Which listener a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the local application.
    Outbound,
    /// For the local application.
    Inbound,
}

/// What the door asks of requests and tells upstreams of callers; one for the process.
#[derive(Clone, Debug)]
pub struct Door {
    /// Whose `X-Forwarded-*` and `Forwarded` are believed.
    pub trusted_proxies: Vec<AddressRange>,
    /// What upstreams are told of callers.
    pub tells: ForwardedHeaders,
    /// Name of this proxy in `Via`; without it there is none.
    pub via: Option<String>,
    /// What is done with `%2f` and `%5c` in paths.
    pub escaped_slashes: EscapedSlashes,
    /// Whether names of headers may hold `_`.
    pub underscores: bool,
    pub capture: Capture,
    /// Where requests are told of, if anywhere.
    pub access_log: Option<AccessLog>,
    /// Requests of a stranger's connection, of which each may wear a proxy out a little.
    pub max_requests: u64,
    /// What callers of the application have to show, unless the control plane says. `None`: nothing,
    /// whoever says otherwise, since the sidecar has nothing to show itself.
    pub mtls: Option<InboundMtls>,
}

/// What is done with connections that were captured on their way elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Capture {
    /// Whether there are any.
    pub on: bool,
    /// Whether those that no service is meant by go where they wanted to go.
    pub passes_unmatched: bool,
    /// How long they may keep silent before their server is taken for one that speaks first.
    pub detect_timeout: Duration,
}

/// The holder of a connection.
pub struct Caller {
    pub direction: Direction,
    pub peer: Peer,
    pub door: Arc<Door>,
    /// Where the connection wanted to go before it was captured.
    pub original: Option<SocketAddr>,
    /// Who it is, where it has shown that.
    pub identity: Option<Box<SpiffeId>>,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            tells: ForwardedHeaders { x_forwarded: true, forwarded: false },
            via: None,
            escaped_slashes: EscapedSlashes::Reject,
            underscores: false,
            capture: Capture::default(),
            access_log: None,
            max_requests: MOST_REQUESTS,
            mtls: None,
        }
    }
}

impl Default for Capture {
    fn default() -> Self {
        Self { on: false, passes_unmatched: true, detect_timeout: Duration::from_secs(2) }
    }
}

impl Caller {
    /// The holder of a connection that came from `address`.
    pub fn new(
        direction: Direction,
        address: SocketAddr,
        stream: &TcpStream,
        door: &Arc<Door>,
    ) -> Self {
        let trust = door.trust(direction, address, || stream.local_addr().ok());
        let peer = Peer::new(address.ip(), "http", trust, door.tells);
        let original = door.capture.on.then(|| original_destination(stream)).flatten();
        Self { direction, peer, door: Arc::clone(door), original, identity: None }
    }

    /// The same one, once it has shown who it is. Workloads of the mesh tell the truth about their
    /// own callers.
    #[must_use]
    pub fn known_as(self, address: SocketAddr, identity: SpiffeId) -> Self {
        let peer = Peer::new(address.ip(), "https", Trust::Proxy, self.door.tells);
        Self { peer, identity: Some(Box::new(identity)), ..self }
    }

    /// Requests that the connection may bring. The application beside the sidecar and trusted proxies
    /// may keep theirs as long as they like.
    pub fn most_requests(&self) -> u64 {
        match self.peer.trust() {
            Trust::Edge if self.door.max_requests > 0 => self.door.max_requests,
            _ => u64::MAX,
        }
    }

    /// Where an unmatched request or connection goes, if anywhere.
    pub fn passes_to(&self) -> Option<SocketAddr> {
        self.original.filter(|_| self.door.capture.passes_unmatched)
    }
}

impl Door {
    /// On the outbound listener it is the application that calls where the connection was made
    /// within this machine: over loopback, or, when it was captured, from an address to itself.
    fn trust(
        &self,
        direction: Direction,
        address: SocketAddr,
        reached: impl Fn() -> Option<SocketAddr>,
    ) -> Trust {
        let is_local = || {
            reached().is_some_and(|reached| {
                reached.ip().to_canonical().is_loopback() || reached.ip() == address.ip()
            })
        };
        if self.trusted_proxies.iter().any(|range| range.contains(address.ip())) {
            Trust::Proxy
        } else if direction == Direction::Outbound && is_local() {
            Trust::Application
        } else {
            Trust::Edge
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Direction::{Inbound, Outbound};
    use super::*;

    #[test]
    fn who_is_believed_depends_on_where_the_connection_comes_from() {
        let door = Door { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..Door::default() };
        let trust = |direction, from: &str, to: &str| {
            door.trust(direction, from.parse().unwrap(), || to.parse().ok())
        };
        for (direction, from, to, expected) in [
            (Outbound, "127.0.0.1:9", "127.0.0.1:16001", Trust::Application),
            (Outbound, "192.168.1.2:9", "127.0.0.1:16001", Trust::Application),
            (Outbound, "192.168.1.2:9", "192.168.1.2:16001", Trust::Application),
            (Outbound, "192.168.1.3:9", "192.168.1.2:16001", Trust::Edge),
            (Outbound, "10.1.1.1:9", "192.168.1.2:16001", Trust::Proxy),
            (Inbound, "127.0.0.1:9", "127.0.0.1:16006", Trust::Edge),
            (Inbound, "10.1.1.1:9", "192.168.1.2:16006", Trust::Proxy),
            (Inbound, "[::ffff:10.1.1.1]:9", "[::1]:16006", Trust::Proxy),
        ] {
            assert_eq!(trust(direction, from, to), expected, "{direction:?} {from} {to}");
        }
    }
}
