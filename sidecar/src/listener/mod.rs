//! Sockets that callers connect to.

mod accept;
mod bind;
mod gate;
mod original_destination;
mod watch;

pub use accept::accept;
pub use bind::{BindError, Listener, adopt, bind};
pub use gate::{ConnectionGate, Entered, default_cap};
pub use original_destination::original_destination;
pub use watch::{ConnectionWatch, ConnectionWatches, RunningRequest, Verdict};
