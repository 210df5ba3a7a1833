//! The weighted split: buckets in a fixed order with a constant total, so that a growing weight
//! only moves buckets forward and never throws a caller back.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::route_action::HashPolicy;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::{
    Cookie, Header, PolicySpecifier,
};
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::{
    ClusterWeight, RandomValueSpecifier,
};
use envoy_types::pb::google::protobuf::{BoolValue, UInt32Value};
use segue_proto::extension::v1::Split;
use segue_proto::extension::v1::split::{Key, Range};
use segue_shared::{bucket, xds_names};

use crate::config::mesh::{Backend, MeshConfig, Service, SplitBy};

/// Clusters and their buckets out of 10,000, without those that have none: the versions of the
/// service itself from the oldest on, then those of other services.
pub(super) fn shares(
    config: &MeshConfig,
    service: &Service,
    backends: &[Backend],
) -> Vec<(String, u16)> {
    let mut ordered = BTreeMap::new();
    for backend in backends {
        let age = config.services.get(&backend.service).and_then(|service| {
            service.versions.iter().position(|version| version.label == backend.version)
        });
        let place = (
            backend.service != service.name,
            &backend.service,
            age.unwrap_or(usize::MAX),
            &backend.version,
        );
        let weight: &mut u32 = ordered.entry(place).or_default();
        *weight = weight.saturating_add(backend.weight);
    }
    let weights: Vec<u32> = ordered.values().copied().collect();
    let names = ordered
        .keys()
        .map(|(_, service, _, version)| xds_names::cluster(service, version.as_str()));
    names.zip(bucket::shares(&weights)).filter(|(_, share)| *share > 0).collect()
}

/// What every xDS client can do.
pub(super) fn weighted_clusters(shares: &[(String, u16)], by: &SplitBy) -> pb::WeightedCluster {
    let clusters = shares.iter().map(|(cluster, share)| ClusterWeight {
        name: cluster.clone(),
        weight: Some(UInt32Value { value: u32::from(*share) }),
        ..ClusterWeight::default()
    });
    let hashed = *by != SplitBy::Random;
    pb::WeightedCluster {
        clusters: clusters.collect(),
        random_value_specifier: hashed
            .then_some(RandomValueSpecifier::UseHashPolicy(BoolValue { value: true })),
        ..pb::WeightedCluster::default()
    }
}

/// What is hashed, in Envoy's words.
pub(super) fn hash_policy(by: &SplitBy) -> Vec<HashPolicy> {
    let specifier = match by {
        SplitBy::Random => return Vec::new(),
        SplitBy::Header(name) => PolicySpecifier::Header(Header {
            header_name: name.to_ascii_lowercase(),
            ..Header::default()
        }),
        SplitBy::Cookie(name) => {
            PolicySpecifier::Cookie(Cookie { name: name.clone(), ..Cookie::default() })
        }
    };
    vec![HashPolicy { policy_specifier: Some(specifier), ..HashPolicy::default() }]
}

/// What our sidecars do: the same buckets, by the hash that all of them share.
pub(super) fn extension(service: &Service, shares: &[(String, u16)], by: &SplitBy) -> Split {
    let key = match by {
        SplitBy::Random => None,
        SplitBy::Header(name) => Some(Key::Header(name.to_ascii_lowercase())),
        SplitBy::Cookie(name) => Some(Key::Cookie(name.clone())),
    };
    let ranges = shares
        .iter()
        .map(|(cluster, share)| Range { cluster: cluster.clone(), buckets: u32::from(*share) });
    Split { salt: service.name.to_string(), key, ranges: ranges.collect() }
}
