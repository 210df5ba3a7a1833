//! Endpoints for tests.

use crate::snapshot::Endpoint;

/// Endpoints of these weights and priorities.
pub fn endpoints(of: &[(u32, u32)]) -> Vec<Endpoint> {
    let endpoint = |(i, &(weight, priority)): (usize, &(u32, u32))| Endpoint {
        weight,
        priority,
        ..Endpoint::new(([127, 0, 0, 1], 9000 + i as u16).into())
    };
    of.iter().enumerate().map(endpoint).collect()
}

/// So many that do not differ.
pub fn equal(count: usize) -> Vec<Endpoint> {
    endpoints(&vec![(1, 0); count])
}
