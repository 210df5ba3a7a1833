//! What people write: from YAML to a checked [`mesh::MeshConfig`] and back.

mod access;
pub mod admit;
mod backend;
pub mod check;
mod context;
pub mod declaration;
mod decode;
mod expression;
pub mod fault;
mod format;
pub mod key;
mod lookup;
pub mod mesh;
mod notices;
pub mod parse;
mod piece;
pub mod print;
pub mod reference;
mod rollout;
mod route;
mod route_filter;
mod scalar;
pub mod schema;
mod service;
mod shape;
pub mod source;
mod suggest;
mod tcp_route;
mod time;
mod traffic;
mod yaml;

pub use admit::{Admitted, Base, Batch};
pub use check::check;
pub use declaration::Declaration;
pub use fault::{Fault, Faults, Place};
pub use key::{Kind, ResourceKey, key};
pub use mesh::MeshConfig;
pub use notices::notices;
pub use parse::{parse, parse_typed};
pub use print::{to_json, to_yaml};
pub use reference::reference;
pub use schema::schema;
pub use source::{Parsed, SourceMap, SourceText};

#[cfg(test)]
mod tests;
