//! The xDS protocol without its streams: from requests and snapshots to responses.

mod delta;
mod order;
mod session;
mod sotw;
mod subscription;

pub use delta::Delta;
pub use order::Part;
pub use session::{Malformed, Outgoing, Session, Variant};
pub use sotw::StateOfTheWorld;
pub use subscription::{Refusal, Subscription};

#[cfg(test)]
mod tests;
