//! `ClusterLoadAssignment`: where the instances of one version are.

use std::net::SocketAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, Locality, SocketAddress, address};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::google::protobuf::UInt32Value;
use imbl::OrdMap;

use crate::config::mesh::Version;

/// What discovery knows: addresses by the name of the cluster, for versions that name a host. Shares
/// what did not change with the state before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedEndpoints(pub OrdMap<Arc<str>, Arc<[SocketAddr]>>);

/// The instances of a version: those written down and those discovered. Sorted, so that an answer
/// of DNS in another order is no change; without repetition, which gRPC refuses.
pub(super) fn compile(
    name: &str,
    version: &Version,
    resolved: &ResolvedEndpoints,
) -> ClusterLoadAssignment {
    let mut addresses = version.endpoints.clone();
    if version.dns.is_some() {
        addresses.extend(resolved.0.get(name).into_iter().flat_map(|known| known.iter()));
    }
    addresses.sort_unstable();
    addresses.dedup();
    assignment(name, addresses)
}

/// These instances, in this order.
pub(super) fn assignment(name: &str, addresses: Vec<SocketAddr>) -> ClusterLoadAssignment {
    let lb_endpoints: Vec<LbEndpoint> = addresses.into_iter().map(instance).collect();
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            // gRPC refuses an assignment whose locality is absent or without weight.
            locality: Some(Locality::default()),
            load_balancing_weight: Some(UInt32Value { value: 1 }),
            lb_endpoints,
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}

fn instance(at: SocketAddr) -> LbEndpoint {
    let endpoint = Endpoint { address: Some(address(at)), ..Endpoint::default() };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..LbEndpoint::default()
    }
}

/// A socket address as Envoy writes it.
pub(super) fn address(at: SocketAddr) -> Address {
    let socket = SocketAddress {
        address: at.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(u32::from(at.port()))),
        ..SocketAddress::default()
    };
    Address { address: Some(address::Address::SocketAddress(socket)) }
}
