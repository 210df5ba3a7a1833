//! Where the instances of a version are, as far as the configuration does not say it itself.

mod dns;
mod follow;

pub use dns::{Resolver, SystemResolver};
pub use follow::{Discovery, Settings};
