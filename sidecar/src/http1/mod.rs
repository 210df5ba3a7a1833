//! HTTP/1.1 over sockets. What bytes mean is decided in the core; here they come and go, with
//! nothing held while nothing does.

mod client;
mod incoming;
mod outgoing;
mod pipe;
mod server;
mod tunnel;
mod wire;

pub use client::{ClientBody, ClientConnection, SendFailure, Sent, Unanswered};
pub use incoming::ReadError;
pub use pipe::{Pipe, PipedBody, close_idle_pipes};
pub use server::{AnswerBody, Next, RespondError, ServerBody, ServerConnection};
pub use tunnel::{Traffic, Tunnel, TunnelEnd};
pub use wire::Wire;
