//! From the configuration of the mesh to what one class of node gets.

mod cluster;
mod endpoint;
mod extension;
mod forward;
mod listener;
mod matching;
pub mod node;
mod route;
mod snapshot;
mod split;

pub use endpoint::ResolvedEndpoints;
pub use node::NodeClass;
pub use snapshot::compile;

#[cfg(test)]
mod tests;
