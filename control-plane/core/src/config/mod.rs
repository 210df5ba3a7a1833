//! What people write: from YAML to a checked [`mesh::MeshConfig`] and back.

pub mod check;
pub mod fault;
pub mod key;
pub mod mesh;
pub mod parse;
pub mod print;
pub mod schema;

pub use check::check;
pub use fault::{Fault, Faults, Place};
pub use key::{Kind, ResourceKey, key};
pub use mesh::MeshConfig;
pub use parse::{Parsed, SourceMap, SourceText, parse, parse_typed};
pub use print::{to_json, to_yaml};
pub use schema::schema;
