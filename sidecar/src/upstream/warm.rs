//! Readies clusters before the first request: an endpoint that answers is known to be there.

use std::sync::Arc;

use segue_sidecar_core::snapshot::Cluster;

use super::connect::open;
use crate::activate::Warm;

/// Opens and closes a connection to one endpoint after the other until one answers. Workers open
/// their own, since connections never change threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectWarm;

impl Warm for ConnectWarm {
    async fn warm(&self, cluster: &Arc<Cluster>) -> bool {
        for endpoint in cluster.endpoints.iter() {
            if open(endpoint.address, cluster.connect_timeout).await.is_ok() {
                return true;
            }
        }
        // A cluster without endpoints has nothing that could be readied.
        cluster.endpoints.is_empty()
    }
}
