//! `ClusterLoadAssignment`.
//!
//! | field | taken |
//! |---|---|
//! | `cluster_name`, `endpoints[].lb_endpoints[]`, `load_balancing_weight` of endpoints | yes |
//! | `health_status` | `UNHEALTHY`, `DRAINING` and `TIMEOUT` are left out |
//! | `address.socket_address` | TCP with an IP literal and a port number; all else is refused |
//! | `priority` | yes, up to 128 |
//! | `locality`, `load_balancing_weight` of localities, `metadata`, `hostname`, `health_check_config` | ignored: they tune |
//! | `policy.drop_overloads`, endpoints by name or collection | refused |

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::address::Address as PbAddress;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, HealthStatus};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};

use super::field::{refuse, unsupported};
use crate::reject::Fault;
use crate::snapshot::Endpoint;

/// Envoy's own bound.
const MOST_PRIORITY: u32 = 128;

/// The endpoints of one cluster that may be picked.
#[derive(Debug, PartialEq, Eq)]
pub struct Assignment {
    pub name: Arc<str>,
    pub endpoints: Arc<[Endpoint]>,
}

pub(crate) fn assignment(message: &ClusterLoadAssignment) -> Result<Assignment, Fault> {
    if let Some(policy) = &message.policy {
        refuse(!policy.drop_overloads.is_empty(), "policy.drop_overloads")?;
    }
    let mut usable: Vec<Endpoint> = Vec::new();
    let mut seen = HashSet::new();
    for (i, locality) in message.endpoints.iter().enumerate() {
        refuse(locality.lb_config.is_some(), &format!("endpoints[{i}].lb_config"))?;
        if locality.priority > MOST_PRIORITY {
            let reason = format!("must be at most {MOST_PRIORITY}");
            return Err(Fault::at(format!("endpoints[{i}].priority"), reason));
        }
        for (j, endpoint) in locality.lb_endpoints.iter().enumerate() {
            let compiled = lb_endpoint(endpoint)
                .map_err(|fault| fault.under(&format!("endpoints[{i}].lb_endpoints[{j}]")))?;
            if may_be_picked(endpoint.health_status) && seen.insert(compiled.address) {
                usable.push(Endpoint { priority: locality.priority, ..compiled });
            }
        }
    }
    Ok(Assignment { name: message.cluster_name.as_str().into(), endpoints: usable.into() })
}

fn may_be_picked(health: i32) -> bool {
    !matches!(
        HealthStatus::try_from(health),
        Ok(HealthStatus::Unhealthy | HealthStatus::Draining | HealthStatus::Timeout)
    )
}

fn lb_endpoint(endpoint: &LbEndpoint) -> Result<Endpoint, Fault> {
    let weight = endpoint.load_balancing_weight.as_ref().map_or(1, |weight| weight.value);
    if weight == 0 {
        return Err(Fault::at("load_balancing_weight", "must be at least 1"));
    }
    let address = match &endpoint.host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => {
            socket_address(endpoint.address.as_ref()).map_err(|fault| fault.under("endpoint"))?
        }
        Some(HostIdentifier::EndpointName(_)) => return Err(unsupported("endpoint_name")),
        None => return Err(Fault::at("endpoint", "must be set")),
    };
    Ok(Endpoint { weight, ..Endpoint::new(address) })
}

fn socket_address(address: Option<&Address>) -> Result<SocketAddr, Fault> {
    match address.and_then(|address| address.address.as_ref()) {
        Some(PbAddress::SocketAddress(socket)) => {
            let field = |name: &str| format!("address.socket_address.{name}");
            refuse(socket.protocol != 0, &field("protocol"))?;
            let ip: IpAddr = socket.address.parse().map_err(|_| {
                Fault::at(field("address"), format!("{:?} is no IP address", socket.address))
            })?;
            match &socket.port_specifier {
                Some(PortSpecifier::PortValue(port)) => u16::try_from(*port)
                    .ok()
                    .filter(|port| *port > 0)
                    .map(|port| SocketAddr::new(ip, port))
                    .ok_or_else(|| Fault::at(field("port_value"), "is no port")),
                Some(PortSpecifier::NamedPort(_)) => Err(unsupported(&field("named_port"))),
                None => Err(Fault::at(field("port_value"), "must be set")),
            }
        }
        Some(_) => Err(Fault::at("address", "only socket_address is supported")),
        None => Err(Fault::at("address", "must be set")),
    }
}
