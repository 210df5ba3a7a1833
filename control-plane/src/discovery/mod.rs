//! Where the instances of a version are, as far as the configuration does not say it itself.

mod ask;
mod dns;
mod follow;

pub use ask::Settings;
pub use dns::{Resolver, SystemResolver};
pub use follow::Discovery;
