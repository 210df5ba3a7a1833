//! Load reports of Envoys and gRPC clients (LRS) as the counts that our sidecars report.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::endpoint::v3::ClusterStats;
use segue_shared::xds_names;

use crate::fleet::Load;

/// Most clusters of one report that are read.
const MAX_CLUSTERS: usize = 10_000;

/// The load of each version, and how many clusters stand for none.
pub fn loads(clusters: Vec<ClusterStats>) -> (Vec<Load>, usize) {
    let mut ignored = clusters.len().saturating_sub(MAX_CLUSTERS);
    let mut by_version = BTreeMap::new();
    for cluster in clusters.into_iter().take(MAX_CLUSTERS) {
        let Some((service, version)) = xds_names::parse_cluster(&cluster.cluster_name) else {
            ignored += 1;
            continue;
        };
        let load =
            by_version.entry((service.to_string(), version.to_string())).or_insert_with(|| Load {
                service: service.to_string(),
                version: version.to_string(),
                ..Load::default()
            });
        let add = |sum: &mut u64, count: u64| *sum = sum.saturating_add(count);
        add(&mut load.dropped, cluster.total_dropped_requests);
        for locality in &cluster.upstream_locality_stats {
            let ended =
                locality.total_successful_requests.saturating_add(locality.total_error_requests);
            // Clients that tell only what ended began at least that.
            add(
                &mut load.requests,
                match locality.total_issued_requests {
                    0 => ended,
                    issued => issued,
                },
            );
            add(&mut load.failures, locality.total_error_requests);
            add(&mut load.in_flight, locality.total_requests_in_progress);
        }
    }
    (by_version.into_values().collect(), ignored)
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::endpoint::v3::UpstreamLocalityStats;

    use super::*;

    fn cluster(name: &str, localities: &[[u64; 4]], dropped: u64) -> ClusterStats {
        let locality = |[issued, succeeded, failed, in_flight]: [u64; 4]| UpstreamLocalityStats {
            total_issued_requests: issued,
            total_successful_requests: succeeded,
            total_error_requests: failed,
            total_requests_in_progress: in_flight,
            ..UpstreamLocalityStats::default()
        };
        ClusterStats {
            cluster_name: name.to_owned(),
            upstream_locality_stats: localities.iter().copied().map(locality).collect(),
            total_dropped_requests: dropped,
            ..ClusterStats::default()
        }
    }

    #[test]
    fn a_report_becomes_the_load_of_each_version() {
        let report = vec![
            cluster("default/chat/v2", &[[10, 6, 2, 3], [5, 5, 0, 1]], 4),
            cluster("default/chat/v1", &[[0, 7, 1, 0]], 0),
            cluster("xds-grpc", &[[9, 9, 0, 0]], 0),
            cluster("default/chat/v2", &[[1, 0, 1, u64::MAX]], 0),
        ];
        let load = |version: &str, [requests, failures, dropped, in_flight]: [u64; 4]| Load {
            service: "default/chat".to_owned(),
            version: version.to_owned(),
            requests,
            failures,
            dropped,
            in_flight,
        };
        let expected = vec![load("v1", [8, 1, 0, 0]), load("v2", [16, 3, 4, u64::MAX])];
        assert_eq!(loads(report), (expected, 1));
    }

    #[test]
    fn a_report_is_read_within_a_limit() {
        let report = vec![cluster("a/b/c", &[], 0); MAX_CLUSTERS + 5];
        let (loads, ignored) = loads(report);
        assert_eq!((loads.len(), ignored), (1, 5));
    }
}
