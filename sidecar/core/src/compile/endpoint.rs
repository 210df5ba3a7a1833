//! `ClusterLoadAssignment`.
//!
//! | field | taken |
//! |---|---|
//! | `cluster_name`, `endpoints[].lb_endpoints[]`, `load_balancing_weight` of endpoints | yes |
//! | `health_status` | `UNHEALTHY`, `DRAINING` and `TIMEOUT` are left out |
//! | `address.socket_address` | TCP with an IP literal and a port number; all else is refused. In clusters that ask DNS (see `discovery`) a host name as well |
//! | `additional_addresses` | as `address`, up to 32; tried in turns of family (RFC 8305) |
//! | `priority` | yes, up to 128 |
//! | `locality`, `load_balancing_weight` of localities | yes; see `localities` for what they mean |
//! | `metadata`, `hostname`, `health_check_config` | ignored: they tune |
//! | `policy.drop_overloads`, endpoints by name or collection | refused |

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::address::Address as PbAddress;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, HealthStatus, SocketAddress};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as PbEndpoint, LbEndpoint, LocalityLbEndpoints,
};

use super::field::{refuse, unsupported};
use crate::dns::interleaved;
use crate::reject::Fault;
use crate::snapshot::{Endpoint, Locality};

/// Envoy's own bound.
const MOST_PRIORITY: u32 = 128;
/// Further addresses of one endpoint.
const MOST_ADDITIONAL: usize = 32;

/// The endpoints of one cluster that may be picked.
#[derive(Debug, PartialEq, Eq)]
pub struct Assignment {
    pub name: Arc<str>,
    pub endpoints: Arc<[Endpoint]>,
}

/// An endpoint, wherever it is, and its place among the others.
#[derive(Debug)]
pub(crate) struct Placed<T> {
    pub at: T,
    pub weight: u32,
    pub priority: u32,
    pub locality: Option<Arc<Locality>>,
    pub locality_weight: u32,
}

pub(crate) fn assignment(message: &ClusterLoadAssignment) -> Result<Assignment, Fault> {
    let mut usable: Vec<Endpoint> = Vec::new();
    let mut seen = HashSet::new();
    for it in placed(message, addresses)? {
        let Placed { at: (address, others), weight, priority, locality, locality_weight } = it;
        if seen.insert(address) {
            let place = Endpoint { priority, locality, locality_weight, ..Endpoint::new(address) };
            usable.push(Endpoint { others, weight, ..place });
        }
    }
    Ok(Assignment { name: message.cluster_name.as_str().into(), endpoints: usable.into() })
}

/// The endpoints that may be picked, each as `read` has it.
pub(crate) fn placed<T>(
    message: &ClusterLoadAssignment,
    read: impl Fn(&PbEndpoint) -> Result<T, Fault>,
) -> Result<Vec<Placed<T>>, Fault> {
    if let Some(policy) = &message.policy {
        refuse(!policy.drop_overloads.is_empty(), "policy.drop_overloads")?;
    }
    let mut usable = Vec::new();
    for (i, locality) in message.endpoints.iter().enumerate() {
        refuse(locality.lb_config.is_some(), &format!("endpoints[{i}].lb_config"))?;
        let (place, locality_weight) = (place(locality), locality.load_balancing_weight);
        if locality.priority > MOST_PRIORITY {
            let reason = format!("must be at most {MOST_PRIORITY}");
            return Err(Fault::at(format!("endpoints[{i}].priority"), reason));
        }
        for (j, endpoint) in locality.lb_endpoints.iter().enumerate() {
            let (at, weight) = lb_endpoint(endpoint, &read)
                .map_err(|fault| fault.under(&format!("endpoints[{i}].lb_endpoints[{j}]")))?;
            if may_be_picked(endpoint.health_status) {
                usable.push(Placed {
                    at,
                    weight,
                    priority: locality.priority,
                    locality: place.clone(),
                    locality_weight: locality_weight.map_or(0, |weight| weight.value),
                });
            }
        }
    }
    Ok(usable)
}

fn place(locality: &LocalityLbEndpoints) -> Option<Arc<Locality>> {
    let told = locality.locality.as_ref()?;
    let place = Locality {
        region: told.region.as_str().into(),
        zone: told.zone.as_str().into(),
        sub_zone: told.sub_zone.as_str().into(),
    };
    (!place.is_unknown()).then(|| Arc::new(place))
}

fn may_be_picked(health: i32) -> bool {
    !matches!(
        HealthStatus::try_from(health),
        Ok(HealthStatus::Unhealthy | HealthStatus::Draining | HealthStatus::Timeout)
    )
}

fn lb_endpoint<T>(
    endpoint: &LbEndpoint,
    read: impl Fn(&PbEndpoint) -> Result<T, Fault>,
) -> Result<(T, u32), Fault> {
    let weight = endpoint.load_balancing_weight.as_ref().map_or(1, |weight| weight.value);
    if weight == 0 {
        return Err(Fault::at("load_balancing_weight", "must be at least 1"));
    }
    let at = match &endpoint.host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => {
            read(endpoint).map_err(|fault| fault.under("endpoint"))?
        }
        Some(HostIdentifier::EndpointName(_)) => return Err(unsupported("endpoint_name")),
        None => return Err(Fault::at("endpoint", "must be set")),
    };
    Ok((at, weight))
}

fn addresses(endpoint: &PbEndpoint) -> Result<(SocketAddr, Arc<[SocketAddr]>), Fault> {
    let literal = |address: Option<&Address>| {
        let (socket, port) = socket_address(address)?;
        let ip: IpAddr = socket.address.parse().map_err(|_| {
            let reason = format!("{:?} is no IP address", socket.address);
            Fault::at("address.socket_address.address", reason)
        })?;
        Ok(SocketAddr::new(ip, port))
    };
    let mut all = vec![literal(endpoint.address.as_ref())?];
    if endpoint.additional_addresses.len() > MOST_ADDITIONAL {
        let reason = format!("must be at most {MOST_ADDITIONAL}");
        return Err(Fault::at("additional_addresses", reason));
    }
    for (i, additional) in endpoint.additional_addresses.iter().enumerate() {
        let further = literal(additional.address.as_ref());
        all.push(further.map_err(|fault| fault.under(&format!("additional_addresses[{i}]")))?);
    }
    let ordered = interleaved(&all);
    Ok((all[0], ordered[1..].into()))
}

/// The address of an endpoint, whatever its host is, and its port.
pub(crate) fn socket_address(address: Option<&Address>) -> Result<(&SocketAddress, u16), Fault> {
    match address.and_then(|address| address.address.as_ref()) {
        Some(PbAddress::SocketAddress(socket)) => {
            let field = |name: &str| format!("address.socket_address.{name}");
            refuse(socket.protocol != 0, &field("protocol"))?;
            match &socket.port_specifier {
                Some(PortSpecifier::PortValue(port)) => u16::try_from(*port)
                    .ok()
                    .filter(|port| *port > 0)
                    .map(|port| (socket, port))
                    .ok_or_else(|| Fault::at(field("port_value"), "is no port")),
                Some(PortSpecifier::NamedPort(_)) => Err(unsupported(&field("named_port"))),
                None => Err(Fault::at(field("port_value"), "must be set")),
            }
        }
        Some(_) => Err(Fault::at("address", "only socket_address is supported")),
        None => Err(Fault::at("address", "must be set")),
    }
}
