//! What people write: from YAML to a checked [`mesh::MeshConfig`] and back.

mod access;
pub mod admit;
pub mod check;
mod context;
mod decode;
pub mod fault;
mod format;
pub mod key;
mod lookup;
pub mod mesh;
pub mod parse;
pub mod print;
mod rollout;
mod route;
mod route_filter;
mod scalar;
pub mod schema;
mod service;
mod shape;
mod suggest;
mod time;
mod traffic;
mod yaml;

pub use admit::{Admitted, admit};
pub use check::check;
pub use fault::{Fault, Faults, Place};
pub use key::{Kind, ResourceKey, key};
pub use mesh::MeshConfig;
pub use parse::{Parsed, SourceMap, SourceText, parse, parse_typed};
pub use print::{to_json, to_yaml};
pub use schema::schema;

#[cfg(test)]
mod tests;
