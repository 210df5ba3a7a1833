//! Sockets that callers connect to.

mod accept;
mod bind;
mod watch;

pub use accept::accept;
pub use bind::{BindError, Listener, bind};
pub use watch::{ConnectionWatch, ConnectionWatches, RunningRequest, Verdict};
