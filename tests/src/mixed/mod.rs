//! Load of every kind at once: streams, uploads, tunnels, and callers that behave badly.

mod call;
mod kind;
mod long;
mod run;
mod tally;

pub use kind::{Kind, Targets};
pub use long::Long;
pub use run::{Mixed, tcp_echo};
pub use tally::{Excuse, MixedReport};
