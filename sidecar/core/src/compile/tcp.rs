//! `TcpProxy` and the match of its filter chain.
//!
//! | field | taken |
//! |---|---|
//! | `filter_chain_match.destination_port`, `server_names`, `prefix_ranges` | yes |
//! | `filter_chain_match.transport_protocol` | `tls` and `raw_buffer`: what a match on server names or none says anyway |
//! | other conditions of the match | refused |
//! | `cluster`, `weighted_clusters` | yes; a connection draws its cluster at random |
//! | `idle_timeout` | yes, default 1 h, 0 = none |
//! | `tunneling_config`, `metadata_match`, `on_demand` | refused |
//! | access logs, `max_connect_attempts`, `hash_policy`, statistics | ignored: they tune |

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::listener::v3::FilterChainMatch;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster,
};
use envoy_types::pb::google::protobuf::Any;
use segue_shared::bucket::{Salt, TOTAL, shares};
use segue_shared::extension::unpack;

use super::cluster_names::ClusterNames;
use super::extension::ranges;
use super::field::{duration, refuse};
use crate::canonical::AddressRange;
use crate::reject::Fault;
use crate::snapshot::{Domain, Split, SplitKey, TcpRoute};

pub(crate) const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_hours(1);

/// A route whose clusters have places in a list of names.
#[derive(Debug)]
pub struct TcpSpec {
    pub route: TcpRoute,
    pub clusters: Vec<Arc<str>>,
}

/// `listener` and the chain's name are for logs.
pub(crate) fn chain(
    listener: &str,
    name: &str,
    matched: Option<&FilterChainMatch>,
    any: &Any,
) -> Result<TcpSpec, Fault> {
    let proxy: TcpProxy =
        unpack(any, TCP_PROXY).map_err(|error| Fault::at("typed_config", error.to_string()))?;
    let mut names = ClusterNames::default();
    let split = split(listener, &proxy, &mut names).map_err(|fault| fault.under("typed_config"))?;
    let idle_timeout = match &proxy.idle_timeout {
        Some(idle) => Some(duration("idle_timeout", idle)?).filter(|idle| !idle.is_zero()),
        None => Some(DEFAULT_IDLE_TIMEOUT),
    };
    let wanted = matched.map(conditions).transpose()?.unwrap_or_default();
    let name = if name.is_empty() { listener } else { name };
    let route = TcpRoute {
        name: name.into(),
        port: wanted.port,
        names: wanted.names,
        addresses: wanted.addresses,
        split,
        idle_timeout,
    };
    Ok(TcpSpec { route, clusters: names.into_names() })
}

#[derive(Default)]
struct Conditions {
    port: Option<u16>,
    names: Vec<Domain>,
    addresses: Vec<AddressRange>,
}

fn conditions(matched: &FilterChainMatch) -> Result<Conditions, Fault> {
    let refused = [
        (matched.suffix_len.is_some() || !matched.address_suffix.is_empty(), "address_suffix"),
        (!matched.direct_source_prefix_ranges.is_empty(), "direct_source_prefix_ranges"),
        (matched.source_type != 0, "source_type"),
        (!matched.source_prefix_ranges.is_empty(), "source_prefix_ranges"),
        (!matched.source_ports.is_empty(), "source_ports"),
        (!matched.application_protocols.is_empty(), "application_protocols"),
        (
            !matches!(matched.transport_protocol.as_str(), "" | "tls" | "raw_buffer"),
            "transport_protocol",
        ),
    ];
    let under = |fault: Fault| fault.under("filter_chain_match");
    for (set, field) in refused {
        refuse(set, field).map_err(under)?;
    }
    let port = matched.destination_port.as_ref().map(|port| {
        u16::try_from(port.value)
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| under(Fault::at("destination_port", "must be from 1 to 65535")))
    });
    let names = matched.server_names.iter().enumerate().map(|(i, name)| {
        let parsed = name.parse::<Domain>();
        parsed.map_err(|error| under(Fault::at(format!("server_names[{i}]"), error.to_string())))
    });
    let addresses = matched.prefix_ranges.iter().enumerate().map(|(i, range)| {
        address_range(range).map_err(|fault| under(fault.under(&format!("prefix_ranges[{i}]"))))
    });
    Ok(Conditions {
        port: port.transpose()?,
        names: names.collect::<Result<_, Fault>>()?,
        addresses: addresses.collect::<Result<_, Fault>>()?,
    })
}

fn address_range(range: &CidrRange) -> Result<AddressRange, Fault> {
    let bits = range.prefix_len.as_ref().map_or(0, |bits| bits.value);
    let text = format!("{}/{bits}", range.address_prefix);
    text.parse()
        .map_err(|error: crate::canonical::InvalidAddressRange| Fault::at("", error.to_string()))
}

fn split(listener: &str, proxy: &TcpProxy, names: &mut ClusterNames) -> Result<Split, Fault> {
    refuse(proxy.tunneling_config.is_some(), "tunneling_config")?;
    refuse(proxy.metadata_match.is_some(), "metadata_match")?;
    refuse(proxy.on_demand.is_some(), "on_demand")?;
    let of = match &proxy.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) if !name.is_empty() => {
            vec![(TOTAL, names.place(name))]
        }
        Some(ClusterSpecifier::Cluster(_)) | None => {
            return Err(Fault::at("cluster", "must be set"));
        }
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let ranges = weights(weighted).map_err(|fault| fault.under("weighted_clusters"))?;
            ranges.iter().map(|(end, name)| (*end, names.place(name))).collect()
        }
    };
    Ok(Split { key: SplitKey::Random, salt: Salt::new(listener), ranges: of })
}

fn weights(weighted: &WeightedCluster) -> Result<Vec<(u16, Arc<str>)>, Fault> {
    for (i, cluster) in weighted.clusters.iter().enumerate() {
        let at = format!("clusters[{i}]");
        if cluster.name.is_empty() {
            return Err(Fault::at("name", "must be set").under(&at));
        }
        refuse(cluster.metadata_match.is_some(), "metadata_match")
            .map_err(|fault| fault.under(&at))?;
    }
    let weights: Vec<u32> = weighted.clusters.iter().map(|cluster| cluster.weight).collect();
    let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    if sum == 0 || sum > u64::from(u32::MAX) {
        let reason = format!("weights sum to {sum}, must be 1 to {}", u32::MAX);
        return Err(Fault::at("clusters", reason));
    }
    let names = weighted.clusters.iter().map(|cluster| cluster.name.as_str());
    Ok(ranges(shares(&weights).into_iter().zip(names)))
}
