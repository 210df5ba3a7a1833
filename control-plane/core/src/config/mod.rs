//! What people write: from YAML to a checked [`mesh::MeshConfig`] and back.

pub mod fault;
pub mod mesh;
