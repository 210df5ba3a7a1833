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
    /// What the called side of a service asks of its callers; asked for only by our sidecars, each
    /// for its own service.
    pub const INBOUND: &str = "type.googleapis.com/segue.extension.v1.Inbound";
    /// The end of a snapshot; asked for only by our sidecars.
    pub const SNAPSHOT_MARK: &str = "type.googleapis.com/segue.extension.v1.SnapshotMark";
}

/// Listener of requests that leave the application.
pub const OUTBOUND_LISTENER: &str = "outbound";
/// Routes of [`OUTBOUND_LISTENER`].
pub const OUTBOUND_ROUTES: &str = "outbound";
/// The one resource of type [`type_urls::SNAPSHOT_MARK`].
pub const SNAPSHOT_MARK: &str = "snapshot";
/// The secret with a workload's own certificate and key, as Istio names it. Our sidecars have theirs
/// from elsewhere.
pub const IDENTITY_SECRET: &str = "default";
/// The secret with the authorities that are believed, as Istio names it.
pub const BUNDLE_SECRET: &str = "ROOTCA";
/// Envoy's filter that makes faults on purpose.
pub const FAULT_FILTER: &str = "envoy.filters.http.fault";
/// Key of `Split` in `typed_per_filter_config`.
pub const SPLIT_FILTER: &str = "segue.split";

/// Name of the cluster, and of its load assignment, for one version: `namespace/service/version`.
pub fn cluster(service: &ServiceName, version: &str) -> String {
    format!("{service}/{version}")
}

/// The version that a cluster of ours stands for. `None` for clusters of other control planes.
pub fn parse_cluster(name: &str) -> Option<(ServiceName, VersionLabel)> {
    let (service, version) = name.rsplit_once('/')?;
    Some((parse_service(service)?, VersionLabel::from_str(version).ok()?))
}

/// How our control plane names itself in `ControlPlane.identifier` of its responses. Whoever sees it
/// may subscribe to `*` of every type.
pub const CONTROL_PLANE: &str = "segue";

/// `tcp/<namespace>/<name>`: the listener of a service that speaks no HTTP.
pub fn tcp_listener(service: &ServiceName) -> String {
    format!("tcp/{service}")
}

/// Name of the `VirtualHost` resource of a service, as Envoy's VHDS forms it: the name of the route
/// configuration, then that of the virtual host.
pub fn virtual_host_resource(service: &ServiceName) -> String {
    format!("{OUTBOUND_ROUTES}/{service}")
}

/// The service whose routes a `VirtualHost` resource holds.
pub fn parse_virtual_host_resource(name: &str) -> Option<ServiceName> {
    parse_service(name.strip_prefix(OUTBOUND_ROUTES)?.strip_prefix('/')?)
}

/// Names of the listeners that gRPC clients may ask for to call a service by one of its domains.
pub fn grpc_listeners(domain: &str, port: u16) -> [String; 2] {
    [format!("{domain}:{port}"), domain.to_owned()]
}

/// The domain that a listener for gRPC clients stands for.
pub fn parse_grpc_listener(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((domain, port)) if port.parse::<u16>().is_ok() => domain,
        _ => name,
    }
}

/// Name of the `RouteConfiguration` that gRPC clients ask for to call one service.
pub fn grpc_routes(service: &ServiceName) -> String {
    format!("grpc/{service}")
}

/// The service that the routes of gRPC clients lead to.
pub fn parse_grpc_routes(name: &str) -> Option<ServiceName> {
    parse_service(name.strip_prefix("grpc/")?)
}

/// Name of the virtual host of a service.
pub fn virtual_host(service: &ServiceName) -> String {
    service.to_string()
}

/// The last part of a type URL, as people say it: `Cluster`.
pub fn short_type(type_url: &str) -> &str {
    type_url.rsplit(['.', '/']).next().unwrap_or(type_url)
}

/// `namespace/name`, where neither may be left out.
fn parse_service(text: &str) -> Option<ServiceName> {
    text.contains('/').then(|| ServiceName::from_str(text).ok()).flatten()
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
    fn names_that_stand_for_a_service_round_trip() {
        let service = ServiceName::new("shop", "cart");
        let hosts = virtual_host_resource(&service);
        assert_eq!(parse_virtual_host_resource(&hosts), Some(service.clone()));
        assert_eq!(parse_grpc_routes(&grpc_routes(&service)), Some(service));
        for domain in ["chat", "chat.default", "api.test"] {
            for name in grpc_listeners(domain, 8080) {
                assert_eq!(parse_grpc_listener(&name), domain);
            }
        }
        for foreign in ["outbound", "grpc", "", "outbound/chat", "grpc/chat", "outboundx/a/b"] {
            assert_eq!(parse_virtual_host_resource(foreign), None, "{foreign}");
            assert_eq!(parse_grpc_routes(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn short_types_are_the_message_names() {
        assert_eq!(short_type(type_urls::CLUSTER), "Cluster");
        assert_eq!(short_type(type_urls::SNAPSHOT_MARK), "SnapshotMark");
    }
}
