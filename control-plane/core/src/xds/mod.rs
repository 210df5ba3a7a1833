//! The xDS protocol without its streams: from requests and snapshots to responses.

mod answers;
mod delta;
mod holding;
mod message;
mod order;
mod response;
mod session;
mod sotw;
mod subscription;
mod unasked;
mod variant;
mod wire;

pub use answers::Refusal;
pub use delta::Delta;
pub use holding::{HeldResource, HeldType, Holding};
pub use message::{Message, PART_BYTES};
pub use response::{Client, ResourceError, Response};
pub use session::{Malformed, Session};
pub use sotw::StateOfTheWorld;
pub use subscription::Subscription;
pub use variant::Variant;

#[cfg(test)]
mod tests;
