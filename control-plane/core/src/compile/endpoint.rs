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

use crate::config::mesh::{LocalEndpoints, Version};

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
    let place = |it: &LocalEndpoints| Locality {
        region: it.region.clone(),
        zone: it.zone.clone(),
        sub_zone: it.sub_zone.clone(),
    };
    let mut assignment = assignment(name, sorted(addresses));
    if version.localities.is_empty() {
        return assignment;
    }
    // Those without a place weigh as much as they are, as all others do by default.
    assignment.endpoints.retain(|nowhere| !nowhere.lb_endpoints.is_empty());
    for nowhere in &mut assignment.endpoints {
        nowhere.load_balancing_weight = Some(weight(nowhere.lb_endpoints.len()));
    }
    let placed = version.localities.iter().map(|it| {
        let endpoints = sorted(it.endpoints.clone());
        let weight =
            it.weight.map_or_else(|| weight(endpoints.len()), |value| UInt32Value { value });
        local(place(it), weight, endpoints)
    });
    assignment.endpoints.extend(placed);
    let key = |it: &LocalityLbEndpoints| {
        it.locality.as_ref().map(|it| (it.region.clone(), it.zone.clone(), it.sub_zone.clone()))
    };
    assignment.endpoints.sort_by_cached_key(key);
    assignment
}

fn sorted(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// gRPC refuses a locality without weight.
fn weight(endpoints: usize) -> UInt32Value {
    let value = u32::try_from(endpoints.max(1)).unwrap_or(u32::MAX);
    UInt32Value { value }
}

/// These instances, in this order.
pub(super) fn assignment(name: &str, addresses: Vec<SocketAddr>) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![local(Locality::default(), weight(1), addresses)],
        ..ClusterLoadAssignment::default()
    }
}

fn local(
    locality: Locality,
    weight: UInt32Value,
    addresses: Vec<SocketAddr>,
) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        // gRPC refuses an assignment whose locality is absent.
        locality: Some(locality),
        load_balancing_weight: Some(weight),
        lb_endpoints: addresses.into_iter().map(instance).collect(),
        ..LocalityLbEndpoints::default()
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
