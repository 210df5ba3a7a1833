//! Services that speak no HTTP, as the linker keeps them.

use std::collections::HashMap;
use std::sync::Arc;

use super::Linker;
use super::place::{Place, Places};
use crate::compile::tcp::TcpSpec;
use crate::snapshot::{ClusterIndex, TcpRoute};

/// A route that leads to places. An unchanged one is the same `Arc` in every table.
#[derive(Debug)]
pub(super) struct TcpService {
    /// `<listener>/<place of the chain in it>`.
    key: String,
    pub route: Arc<TcpRoute>,
    /// The clusters that it names.
    pub places: Vec<Arc<Place>>,
}

impl TcpService {
    /// The chains of one listener.
    pub fn of_listener(listener: &str, specs: Vec<TcpSpec>, places: &mut Places) -> Vec<Arc<Self>> {
        let chains = specs.into_iter().enumerate().map(|(i, TcpSpec { mut route, clusters })| {
            let held: Vec<Arc<Place>> = clusters.iter().map(|name| places.hold(name)).collect();
            for (_, index) in &mut route.split.ranges {
                let place = held.get(index.0 as usize);
                *index = place.map_or(ClusterIndex::NONE, |place| place.index);
            }
            let key = format!("{listener}/{i}");
            Arc::new(Self { key, route: Arc::new(route), places: held })
        });
        chains.collect()
    }
}

impl Linker {
    /// Of the newest those that link; in place of one that does not, what it was before.
    pub(super) fn linkable_tcp(
        &mut self,
        newest: &[Arc<TcpService>],
        last: &[Arc<TcpService>],
    ) -> Vec<Arc<TcpService>> {
        let before: HashMap<&str, &Arc<TcpService>> =
            last.iter().map(|service| (service.key.as_str(), service)).collect();
        let linkable = newest.iter().filter_map(|service| {
            if service.places.iter().all(|place| self.cluster(&place.name).is_ok()) {
                return Some(Arc::clone(service));
            }
            before.get(service.key.as_str()).map(|before| Arc::clone(before))
        });
        linkable.collect()
    }
}
