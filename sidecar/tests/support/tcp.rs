//! A service that speaks no HTTP.

use std::time::Duration;

use segue_shared::bucket::Salt;
use segue_sidecar_core::snapshot::{ClusterIndex, Split, SplitKey, TcpRoute};

/// `db:5432`, with the same endpoints, for callers that speak no HTTP.
pub fn route() -> TcpRoute {
    TcpRoute {
        name: "db".into(),
        port: Some(5432),
        names: vec!["db".parse().unwrap()],
        addresses: Vec::new(),
        split: Split {
            key: SplitKey::Random,
            salt: Salt::new("db"),
            ranges: vec![(10_000, ClusterIndex(0))],
        },
        idle_timeout: Some(Duration::from_hours(1)),
    }
}
