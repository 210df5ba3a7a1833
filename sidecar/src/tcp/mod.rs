//! Connections whose bytes nobody here reads: services of protocol `tcp`, TLS that passes through,
//! and captured connections to where nobody has a service.

mod passage;
mod refusal;
mod serve;

pub use passage::{Passage, open};
pub use refusal::Refusal;
pub use serve::{pass, serve};
