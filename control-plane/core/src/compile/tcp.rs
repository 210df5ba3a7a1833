//! `Listener` of a service that speaks no HTTP: which connections are for it, by the name or the
//! address that the caller wanted, and which version each goes to.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::{CidrRange, TrafficDirection};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener,
};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight,
};
use envoy_types::pb::google::protobuf::{BoolValue, UInt32Value};
use segue_shared::extension::{pack_as, type_url};
use segue_shared::xds_names;

use super::route::{domains, rules};
use super::split;
use crate::config::mesh::{MeshConfig, Service};

const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

/// `None` where no version has a share.
pub(super) fn listener(config: &MeshConfig, service: &Service) -> Option<Listener> {
    let (_, rules) = rules(config, service);
    let backends = rules.first().map_or(&[][..], |rule| &rule.backends);
    let shares = split::shares(config, service, backends);
    let cluster_specifier = match shares.as_slice() {
        [] => return None,
        [(cluster, _)] => ClusterSpecifier::Cluster(cluster.clone()),
        shares => {
            let clusters = shares.iter().map(|(name, share)| ClusterWeight {
                name: name.clone(),
                weight: u32::from(*share),
                ..ClusterWeight::default()
            });
            ClusterSpecifier::WeightedClusters(WeightedCluster { clusters: clusters.collect() })
        }
    };
    let proxy = TcpProxy {
        stat_prefix: xds_names::virtual_host(&service.name),
        cluster_specifier: Some(cluster_specifier),
        ..TcpProxy::default()
    };
    let proxy = pack_as(&type_url(TCP_PROXY), &proxy);
    let chain = |matched: FilterChainMatch| FilterChain {
        filter_chain_match: Some(matched),
        filters: vec![Filter {
            name: "envoy.filters.network.tcp_proxy".to_owned(),
            config_type: Some(ConfigType::TypedConfig(proxy.clone())),
        }],
        ..FilterChain::default()
    };
    let port = FilterChainMatch {
        destination_port: Some(UInt32Value { value: u32::from(service.port) }),
        ..FilterChainMatch::default()
    };
    let names = domains(service);
    let addresses: Vec<IpAddr> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let mut chains = vec![chain(FilterChainMatch { server_names: names, ..port.clone() })];
    if !addresses.is_empty() {
        let prefix_ranges = addresses.iter().map(|address| CidrRange {
            address_prefix: address.to_string(),
            prefix_len: Some(UInt32Value { value: if address.is_ipv4() { 32 } else { 128 } }),
        });
        chains.push(chain(FilterChainMatch { prefix_ranges: prefix_ranges.collect(), ..port }));
    }
    Some(Listener {
        name: xds_names::tcp_listener(&service.name),
        filter_chains: chains,
        // Connections are handed to it by the listener that takes all of them.
        bind_to_port: Some(BoolValue { value: false }),
        traffic_direction: TrafficDirection::Outbound as i32,
        ..Listener::default()
    })
}
