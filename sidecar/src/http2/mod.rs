//! HTTP/2 on both sides. A session is what both ends know of a connection, without the connection:
//! its streams, and what waits to be sent. A driver moves bytes between it and the socket; halves of
//! streams are what requests hold.

mod driver;
mod halves;
mod out;
mod session;
mod stream;
#[cfg(test)]
mod tests;

pub use driver::{ClientDriver, ConnectionError, Pinger, Requests, ServerConnection, begin_client};
pub use halves::{Receiver, Sender};
pub use session::Limits;
pub use stream::StreamError;
