//! The authority of the mesh: who gets which certificate, and who may join.

mod authority;
mod files;
mod issue;
mod metrics;
mod server;
mod settings;
mod tokens;

pub use authority::{Authority, AuthorityError};
pub use issue::{IssueError, Issued};
pub use metrics::IdentityMetrics;
pub use server::ServerCertificate;
pub use settings::{IdentitySettings, Membership, OpenError};
pub use tokens::{JoinToken, Listed, Made, Redeemed, Scope, TokenError, Tokens, Unfit};

#[cfg(test)]
mod tests;
