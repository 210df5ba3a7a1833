//! TLS of connections between sidecars: who this one is, and handshakes at both ends.

mod accept;
mod connect;
mod dial;
mod handshakes;
mod identity;
mod mesh;
mod socket;

pub use accept::{Accepted, accept};
pub use connect::{ConnectFailure, originate};
pub use dial::dial;
pub use handshakes::{End, Handshakes, Told};
pub use identity::{Alpn, Identity, IdentityError};
pub use mesh::Mesh;
pub use socket::Socket;
