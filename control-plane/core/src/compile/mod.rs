//! From the configuration of the mesh to what each class of node gets, by what changed.

mod balancer;
mod base;
mod changes;
mod cluster;
mod compiler;
mod endpoint;
mod extension;
mod fault;
mod forward;
mod grpc;
mod inbound;
mod judgement;
mod listener;
mod localities;
mod matching;
pub mod node;
mod piece;
mod problem;
mod route;
mod scope;
pub mod secret;
mod session;
mod split;
mod tcp;
mod tls;
mod view;

pub use compiler::{Compiler, MAX_RESOURCE_BYTES};
pub use endpoint::ResolvedEndpoints;
pub use node::{NodeClass, NodeKind};
pub use problem::{Problem, Problems};
pub use route::domains;
pub use scope::Reach;

#[cfg(test)]
mod tests;
