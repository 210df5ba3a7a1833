//! A request from its head to its end.

mod access;
mod answer_http2;
mod body;
mod caller;
mod connect;
mod detect;
mod fault;
mod forward;
mod headers;
mod hedge;
mod mirror;
mod original;
mod pipeline;
mod request_context;
mod respond;
mod retry;
mod server;
mod server_http1;
mod server_http2;
mod websocket_http2;

pub use body::{ResponseBody, ResponseSource};
pub use caller::{Caller, Capture, Direction, Door, MOST_REQUESTS};
pub use respond::{Reject, flag_of};
pub use server::serve_connection;
