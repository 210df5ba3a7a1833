//! Host names of clusters: asked for, and asked for again when their answers grow old.

mod follow;
mod resolver;

pub use follow::{Names, NamesStatus, Resolved};
pub use resolver::{Answer, DnsSettings, Lookup, LookupError, Resolver};
