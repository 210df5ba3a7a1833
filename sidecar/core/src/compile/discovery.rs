//! Where the endpoints of a `Cluster` come from.
//!
//! | field | taken |
//! |---|---|
//! | `type` | `EDS` over ADS; `STATIC`, `STRICT_DNS` and `LOGICAL_DNS` with `load_assignment`; all else is refused |
//! | `cluster_type` | `envoy.extensions.clusters.dns.v3.DnsCluster`; all else is refused |
//! | `dns_lookup_family` | yes |
//! | `dns_refresh_rate`, `respect_dns_ttl`, `dns_failure_refresh_rate`, `dns_jitter` | yes; see [`Refresh`] for defaults |
//! | `resolver_name`, `dns_resolvers`, `dns_resolution_config`, `typed_dns_resolver_config` | ignored, but for a `resolver_name`, which is refused: who is asked is a setting of the sidecar |

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as PbCluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CustomClusterType, DiscoveryType, DnsLookupFamily,
};
use envoy_types::pb::envoy::config::endpoint::v3::Endpoint as PbEndpoint;
use envoy_types::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use envoy_types::pb::google::protobuf::Duration as PbDuration;
use segue_shared::extension::unpack;

use super::endpoint::{Placed, assignment, placed, socket_address};
use super::field::{duration, over_ads, refuse};
use crate::dns::{DnsSpec, Family, Host, NamedEndpoint, Query, Refresh};
use crate::reject::Fault;
use crate::snapshot::Endpoint;

const DNS_CLUSTER: &str = "envoy.extensions.clusters.dns.v3.DnsCluster";
/// Longest name of a host (RFC 1035), and longest label in it.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// Where endpoints come from.
#[derive(Debug, PartialEq)]
pub enum EndpointSource {
    /// The load assignment of this name.
    Eds(Arc<str>),
    /// The cluster itself.
    Static(Arc<[Endpoint]>),
    /// The cluster itself, by host names.
    Dns(DnsSpec),
}

pub(crate) fn source(message: &PbCluster) -> Result<EndpointSource, Fault> {
    let kind = match &message.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(*kind)
            .map_err(|_| Fault::at("type", format!("{kind} is unknown")))?,
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            return extended(message, custom).map_err(|fault| fault.under("cluster_type"))?;
        }
        None => DiscoveryType::Static,
    };
    match kind {
        DiscoveryType::Eds => {
            let eds = message
                .eds_cluster_config
                .as_ref()
                .ok_or_else(|| Fault::at("eds_cluster_config", "must be set for type EDS"))?;
            over_ads("eds_cluster_config.eds_config", eds.eds_config.as_ref())?;
            let name = if eds.service_name.is_empty() { &message.name } else { &eds.service_name };
            Ok(EndpointSource::Eds(name.as_str().into()))
        }
        DiscoveryType::Static => match &message.load_assignment {
            Some(inline) => {
                let inline = assignment(inline).map_err(|fault| fault.under("load_assignment"))?;
                Ok(EndpointSource::Static(inline.endpoints))
            }
            None => Err(Fault::at("load_assignment", "must be set for type STATIC")),
        },
        DiscoveryType::StrictDns => named(message, false, family(message)?, refresh(message)?),
        DiscoveryType::LogicalDns => named(message, true, family(message)?, refresh(message)?),
        DiscoveryType::OriginalDst => Err(Fault::at("type", "ORIGINAL_DST is not supported")),
    }
}

/// The inner result is of fields outside the extension.
fn extended(
    message: &PbCluster,
    custom: &CustomClusterType,
) -> Result<Result<EndpointSource, Fault>, Fault> {
    let Some(any) = &custom.typed_config else {
        return Err(Fault::at("typed_config", "must be set"));
    };
    if !any.type_url.ends_with(&format!("/{DNS_CLUSTER}")) {
        return Err(Fault::at("typed_config", format!("{} is not supported", any.type_url)));
    }
    let under = |fault: Fault| fault.under("typed_config");
    let dns: DnsCluster =
        unpack(any, DNS_CLUSTER).map_err(|error| under(Fault::at("", error.to_string())))?;
    let family = match dns.dns_lookup_family {
        0 | 1 => Family::Auto,
        2 => Family::V4Only,
        3 => Family::V6Only,
        4 => Family::V4Preferred,
        5 => Family::All,
        other => return Err(under(unknown_family(other))),
    };
    let failure = dns.dns_failure_refresh_rate.as_ref();
    let refresh = Pauses {
        every: dns.dns_refresh_rate.as_ref(),
        failure: failure.map(|it| (it.base_interval.as_ref(), it.max_interval.as_ref())),
        respect_ttl: dns.respect_dns_ttl,
        jitter: dns.dns_jitter.as_ref(),
    };
    let refresh = refresh.read().map_err(under)?;
    Ok(named(message, dns.all_addresses_in_single_endpoint, family, refresh))
}

fn named(
    message: &PbCluster,
    logical: bool,
    family: Family,
    refresh: Refresh,
) -> Result<EndpointSource, Fault> {
    let Some(told) = &message.load_assignment else {
        return Err(Fault::at("load_assignment", "must be set for clusters that ask DNS"));
    };
    let all: usize = told.endpoints.iter().map(|locality| locality.lb_endpoints.len()).sum();
    if logical && all != 1 {
        let reason = format!("has {all} endpoints; a logical DNS cluster has exactly one");
        return Err(Fault::at("load_assignment", reason));
    }
    let read = |endpoint: &PbEndpoint| host(endpoint, family);
    let endpoints = placed(told, read).map_err(|fault| fault.under("load_assignment"))?;
    let endpoints = endpoints.into_iter().map(|it| {
        let Placed { at: (host, port), weight, priority, locality, locality_weight } = it;
        NamedEndpoint { host, port, weight, priority, locality, locality_weight }
    });
    Ok(EndpointSource::Dns(DnsSpec { endpoints: endpoints.collect(), logical, refresh }))
}

fn host(endpoint: &PbEndpoint, family: Family) -> Result<(Host, u16), Fault> {
    refuse(!endpoint.additional_addresses.is_empty(), "additional_addresses")?;
    let (socket, port) = socket_address(endpoint.address.as_ref())?;
    refuse(!socket.resolver_name.is_empty(), "address.socket_address.resolver_name")?;
    if let Ok(literal) = socket.address.parse::<IpAddr>() {
        return Ok((Host::Address(literal), port));
    }
    if !is_host_name(&socket.address) {
        let reason = format!("{:?} is neither a host name nor an IP address", socket.address);
        return Err(Fault::at("address.socket_address.address", reason));
    }
    let host = socket.address.to_ascii_lowercase().into();
    Ok((Host::Name(Query { host, family }), port))
}

/// Letters, digits, hyphens and underscores in labels (RFC 1123, and what Kubernetes and SRV records
/// add to it); a dot at the end says that no search domain is tried.
fn is_host_name(name: &str) -> bool {
    let labels = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(allowed)
    };
    labels.len() <= LONGEST_NAME && labels.split('.').all(label)
}

fn family(message: &PbCluster) -> Result<Family, Fault> {
    match DnsLookupFamily::try_from(message.dns_lookup_family) {
        Ok(DnsLookupFamily::Auto) => Ok(Family::Auto),
        Ok(DnsLookupFamily::V4Only) => Ok(Family::V4Only),
        Ok(DnsLookupFamily::V6Only) => Ok(Family::V6Only),
        Ok(DnsLookupFamily::V4Preferred) => Ok(Family::V4Preferred),
        Ok(DnsLookupFamily::All) => Ok(Family::All),
        Err(_) => Err(unknown_family(message.dns_lookup_family)),
    }
}

fn unknown_family(number: i32) -> Fault {
    Fault::at("dns_lookup_family", format!("{number} is unknown"))
}

#[allow(deprecated)]
fn refresh(message: &PbCluster) -> Result<Refresh, Fault> {
    let failure = message.dns_failure_refresh_rate.as_ref();
    let pauses = Pauses {
        every: message.dns_refresh_rate.as_ref(),
        failure: failure.map(|it| (it.base_interval.as_ref(), it.max_interval.as_ref())),
        respect_ttl: message.respect_dns_ttl,
        jitter: message.dns_jitter.as_ref(),
    };
    pauses.read()
}

/// Pauses as both messages have them; of a failure the base and the most.
struct Pauses<'a> {
    every: Option<&'a PbDuration>,
    failure: Option<(Option<&'a PbDuration>, Option<&'a PbDuration>)>,
    respect_ttl: bool,
    jitter: Option<&'a PbDuration>,
}

impl Pauses<'_> {
    fn read(self) -> Result<Refresh, Fault> {
        let mut refresh = match self.every {
            Some(every) => Refresh::every(pause("dns_refresh_rate", every)?),
            None => Refresh::default(),
        };
        if let Some((base, most)) = self.failure {
            let field = |name: &str| format!("dns_failure_refresh_rate.{name}");
            let Some(base) = base else {
                return Err(Fault::at(field("base_interval"), "must be set"));
            };
            refresh.failure_first = pause(&field("base_interval"), base)?;
            refresh.failure_most = match most {
                Some(most) => pause(&field("max_interval"), most)?,
                None => refresh.failure_first * 10,
            };
            if refresh.failure_most < refresh.failure_first {
                return Err(Fault::at(field("max_interval"), "must not be below base_interval"));
            }
        }
        refresh.respect_ttl = self.respect_ttl;
        if let Some(jitter) = self.jitter {
            refresh.jitter = duration("dns_jitter", jitter)?;
        }
        Ok(refresh)
    }
}

fn pause(field: &str, told: &PbDuration) -> Result<Duration, Fault> {
    let pause = duration(field, told)?;
    if pause.is_zero() {
        return Err(Fault::at(field, "must be greater than 0"));
    }
    Ok(pause)
}
