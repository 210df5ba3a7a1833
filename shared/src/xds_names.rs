//! Names of xDS resources: the only place that formats or parses them.

use std::str::FromStr;

use crate::ids::{ServiceName, VersionLabel};

/// Type URLs on ADS.
pub mod type_urls {
    pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
    pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
    /// The routes of one service; asked for only by our sidecars (Envoy's VHDS).
    pub const VIRTUAL_HOST: &str = "type.googleapis.com/envoy.config.route.v3.VirtualHost";
    /// Certificates and keys.
    pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    /// The end of a snapshot; asked for only by our sidecars.
    pub const SNAPSHOT_MARK: &str = "type.googleapis.com/segue.extension.v1.SnapshotMark";
}

/// Listener of requests that leave the application.
pub const OUTBOUND_LISTENER: &str = "outbound";
/// Routes of [`OUTBOUND_LISTENER`].
pub const OUTBOUND_ROUTES: &str = "outbound";
/// The one resource of type [`type_urls::SNAPSHOT_MARK`].
pub const SNAPSHOT_MARK: &str = "snapshot";
/// Key of `Split` in `typed_per_filter_config`.
pub const SPLIT_FILTER: &str = "segue.split";

/// Name of the cluster, and of its load assignment, for one version: `namespace/service/version`.
pub fn cluster(service: &ServiceName, version: &str) -> String {
    format!("{service}/{version}")
}

/// The version that a cluster of ours stands for. `None` for clusters of other control planes.
pub fn parse_cluster(name: &str) -> Option<(ServiceName, VersionLabel)> {
    let (service, version) = name.rsplit_once('/')?;
    let (namespace, name) = service.split_once('/')?;
    let service = ServiceName::from_str(&format!("{namespace}/{name}")).ok()?;
    Some((service, VersionLabel::from_str(version).ok()?))
}

/// How our control plane names itself in `ControlPlane.identifier` of its responses. Whoever sees it
/// may subscribe to `*` of every type.
pub const CONTROL_PLANE: &str = "segue";

/// Name of the `VirtualHost` resource of a service, as Envoy's VHDS forms it: the name of the route
/// configuration, then that of the virtual host.
pub fn virtual_host_resource(service: &ServiceName) -> String {
    format!("{OUTBOUND_ROUTES}/{service}")
}

/// Name of the `RouteConfiguration` that gRPC clients ask for to call one service.
pub fn grpc_routes(service: &ServiceName) -> String {
    format!("grpc/{service}")
}

/// Name of the virtual host of a service.
pub fn virtual_host(service: &ServiceName) -> String {
    service.to_string()
}

/// The last part of a type URL, as people say it: `Cluster`.
pub fn short_type(type_url: &str) -> &str {
    type_url.rsplit(['.', '/']).next().unwrap_or(type_url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names_round_trip() {
        let service = ServiceName::new("shop", "cart");
        let name = cluster(&service, "v2");
        let (parsed, version) = parse_cluster(&name).unwrap();
        assert_eq!((parsed, version.as_str()), (service, "v2"));
    }

    #[test]
    fn foreign_cluster_names_stand_for_no_version() {
        for foreign in ["outbound|80||chat", "a/b", "a/b/c/d", "", "///"] {
            assert_eq!(parse_cluster(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn short_types_are_the_message_names() {
        assert_eq!(short_type(type_urls::CLUSTER), "Cluster");
        assert_eq!(short_type(type_urls::SNAPSHOT_MARK), "SnapshotMark");
    }
}
