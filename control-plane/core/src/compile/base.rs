//! The resources that are there whatever services there are.

use std::sync::Arc;

use segue_shared::xds_names::{OUTBOUND_LISTENER, OUTBOUND_ROUTES, type_urls};

use super::piece::Placed;
use super::{NodeKind, cluster, endpoint, grpc, listener, route};
use crate::snapshot::EncodedResource;

pub(super) fn compile(kind: NodeKind) -> Vec<Placed> {
    match kind {
        NodeKind::Sidecar | NodeKind::Envoy { .. } => {
            let listener = listener::outbound(kind);
            let listener = EncodedResource::new(type_urls::LISTENER, OUTBOUND_LISTENER, &listener);
            let routes = if route::are_inline(kind) {
                route::inline([].iter())
            } else {
                EncodedResource::new(type_urls::ROUTE, OUTBOUND_ROUTES, &route::by_vhds())
            };
            vec![(type_urls::LISTENER, Arc::new(listener)), (type_urls::ROUTE, Arc::new(routes))]
        }
        NodeKind::Grpc => {
            let cluster = cluster::of_endpoints(grpc::NOWHERE);
            let cluster = EncodedResource::new(type_urls::CLUSTER, grpc::NOWHERE, &cluster);
            let none = endpoint::assignment(grpc::NOWHERE, Vec::new());
            let none = EncodedResource::new(type_urls::ENDPOINT, grpc::NOWHERE, &none);
            vec![(type_urls::CLUSTER, Arc::new(cluster)), (type_urls::ENDPOINT, Arc::new(none))]
        }
    }
}
