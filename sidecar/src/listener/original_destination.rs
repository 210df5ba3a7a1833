//! Where a connection wanted to go before the system's rules sent it here.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// `None` where the connection was meant for here, or the system knows of no other destination
/// (netfilter's `SO_ORIGINAL_DST`).
pub fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let here = stream.local_addr().ok()?;
    let socket = SockRef::from(stream);
    let original = match here {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        // An IPv4 connection to a socket of both kinds was rewritten by the rules of IPv4.
        SocketAddr::V6(here) if here.ip().to_ipv4_mapped().is_some() => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    let original = original.ok()?.as_socket()?;
    let same =
        original.ip().to_canonical() == here.ip().to_canonical() && original.port() == here.port();
    (!same).then_some(original)
}
