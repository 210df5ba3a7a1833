//! The authority of the mesh: who gets which certificate, and who may join.

mod authority;
mod certificate;
mod files;
mod issue;
mod metrics;
mod roots;
mod roster;
mod rotation;
mod server;
mod settings;
mod tokens;
mod trust;

pub use authority::{Authority, AuthorityError};
pub use certificate::{fingerprint, not_after, pem};
pub use issue::{IssueError, Issued};
pub use metrics::IdentityMetrics;
pub use roots::{Phase, Roots};
pub use roster::{Laggard, Roster, Seat};
pub use rotation::{Rotation, Standing};
pub use server::ServerCertificate;
pub use settings::{IdentitySettings, Membership, OpenError};
pub use tokens::{JoinToken, Listed, Made, Redeemed, Scope, TokenError, Tokens, Unfit};
pub use trust::Trust;

#[cfg(test)]
mod tests;
