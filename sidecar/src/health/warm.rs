//! Readies clusters before the first request: an endpoint that answers is known to be there.

use std::sync::Arc;

use segue_sidecar_core::snapshot::Cluster;
use tracing::debug;

use super::probe::{Reach, probe};
use crate::activate::Warm;
use crate::tls::Mesh;
use crate::upstream::open;
use crate::vitals::Vitals;

/// Asks one endpoint after the other until one is well. Where nothing says how to probe, a connection
/// is enough. Workers open their own, since connections never change threads.
#[derive(Clone)]
pub struct ProbeWarm {
    vitals: Arc<Vitals>,
    mesh: Mesh,
}

impl ProbeWarm {
    /// What it finds is known to the first request.
    pub fn new(vitals: Arc<Vitals>, mesh: Mesh) -> Self {
        Self { vitals, mesh }
    }
}

impl Warm for ProbeWarm {
    async fn warm(&self, cluster: &Arc<Cluster>) -> bool {
        let vitals = self.vitals.cluster(cluster);
        for endpoint in cluster.endpoints.iter() {
            let address = endpoint.address;
            let good = match &cluster.traffic.probe {
                Some(with) => {
                    let (tls, mesh) = (cluster.tls.clone(), self.mesh.clone());
                    let reach = Reach { address, tls, mesh };
                    probe(&with.kind, &reach, with.timeout).await.is_ok()
                }
                None => open(address, &endpoint.others, cluster.connect_timeout).await.is_ok(),
            };
            debug!(cluster = %cluster.name, %address, good, "warmed");
            if good {
                if let Some(vitals) = &vitals {
                    let probed = cluster.traffic.probe.is_some();
                    vitals.probed(&vitals.endpoint(address, probed), true);
                }
                return true;
            }
        }
        // A cluster without endpoints has nothing that could be readied.
        cluster.endpoints.is_empty()
    }
}
