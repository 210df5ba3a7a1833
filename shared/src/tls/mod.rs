//! TLS between the parts of the mesh: who is believed, and why somebody is not.

mod bundle;
mod refusal;
mod svid;
mod verifier;

pub use bundle::{BundleError, TrustBundle, certificates};
pub use refusal::{Refusal, reason_of};
pub use svid::{Svid, SvidFault};
pub use verifier::{Expected, MeshVerifier, leads_to_first};

#[cfg(test)]
mod tests;
