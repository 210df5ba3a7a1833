//! Checks of a `Service`: versions, endpoints, hosts, dependencies.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use prost_types::Timestamp;
use segue_proto::config::v1::{
    Lifecycle, LocalEndpoints, Protocol as Spoken, ServiceSpec, Version,
};
use segue_shared::ids::{DEFAULT_NAMESPACE, ServiceName};

use super::format::{self, quoted};
use super::key::ResourceKey;
use super::lookup::{Scope, Services, default_version, is_retired};
use super::mesh;

const DEFAULT_PORT: u16 = 80;

/// The service, checked. `None` where a fault leaves nothing to work with.
pub(super) fn check(
    scope: &mut Scope<'_>,
    services: &Services<'_>,
    spec: &ServiceSpec,
) -> Option<mesh::Service> {
    let name = ServiceName::new(scope.key.namespace.clone(), scope.key.name.clone());
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    let mut versions = Vec::new();
    for (i, version) in spec.versions.iter().enumerate() {
        let path = format!("spec.versions[{i}]");
        if let Some(first) = lines.insert(&version.name, i) {
            scope.fault(
                &format!("{path}.name"),
                format!("the version `{}` is named twice", version.name),
                format!("also spec.versions[{first}]"),
            );
        }
        versions.extend(check_version(scope, version, &path));
    }
    let depends_on: Vec<ServiceName> = spec
        .depends_on
        .iter()
        .enumerate()
        .filter_map(|(i, target)| {
            scope.target(services, Some(target), &format!("spec.dependsOn[{i}]"))
        })
        .collect();
    let default = default_version(spec);
    let default_version = scope.version(services, &name, default, "spec.defaultVersion");
    if spec.versions.iter().any(|version| version.name == default && is_retired(version)) {
        scope.fault(
            "spec.defaultVersion",
            format!("the default version `{default}` is retired and serves nothing"),
            "name a version that serves",
        );
    }
    Some(mesh::Service {
        hosts: further_hosts(scope.key, spec),
        protocol: protocol(spec.protocol()),
        port: port(spec),
        versions,
        default_version: default_version?,
        depends_on: (!spec.depends_on.is_empty()).then_some(depends_on),
        name,
    })
}

/// Port that callers name.
pub(super) fn port(spec: &ServiceSpec) -> u16 {
    spec.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(DEFAULT_PORT)
}

/// Names under which every service is found.
pub(super) fn own_hosts(key: &ResourceKey) -> Vec<String> {
    let qualified = format!("{}.{}", key.name, key.namespace);
    if key.namespace == DEFAULT_NAMESPACE {
        vec![key.name.clone(), qualified]
    } else {
        vec![qualified]
    }
}

/// Hosts as written, in lower case, without those that the service has anyway.
fn further_hosts(key: &ResourceKey, spec: &ServiceSpec) -> Vec<String> {
    let mut seen = own_hosts(key);
    let own = seen.len();
    for host in &spec.hosts {
        let host = host.to_ascii_lowercase();
        if !seen.contains(&host) {
            seen.push(host);
        }
    }
    seen.split_off(own)
}

fn check_version(scope: &mut Scope<'_>, version: &Version, path: &str) -> Option<mesh::Version> {
    let sources = [
        ("endpoints", !version.endpoints.is_empty() || !version.localities.is_empty()),
        ("dns", !version.dns.is_empty()),
        ("selector", !version.selector.is_empty()),
    ];
    let named: Vec<&str> =
        sources.iter().filter(|(_, written)| *written).map(|(name, _)| *name).collect();
    if let [_, others @ ..] = named.as_slice() {
        for other in others {
            scope.fault(
                &format!("{path}.{other}"),
                format!("version `{}` has several sources of instances", version.name),
                format!("write only one of {}", named.join(", ")),
            );
        }
    }
    if !version.selector.is_empty() {
        scope.fault(
            &format!("{path}.selector"),
            "`selector` needs discovery in Kubernetes, which this control plane does not have",
            "write `endpoints` or `dns`",
        );
    }
    if let Some(lifecycle) = &version.lifecycle {
        check_lifecycle(scope, lifecycle, &format!("{path}.lifecycle"));
    }
    let mut seen = BTreeMap::new();
    let endpoints = check_endpoints(scope, &version.endpoints, path, &mut seen);
    let localities = check_localities(scope, &version.localities, path, &mut seen);
    Some(mesh::Version {
        label: version.name.parse().ok()?,
        endpoints,
        localities,
        dns: format::host_port(&version.dns),
    })
}

/// The addresses under a path. `seen` are those of the version so far, and where they are.
fn check_endpoints(
    scope: &mut Scope<'_>,
    texts: &[String],
    path: &str,
    seen: &mut BTreeMap<SocketAddr, String>,
) -> Vec<SocketAddr> {
    let mut endpoints = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        // The form was checked when the resource was read.
        let Ok(address) = format::endpoint(text) else { continue };
        let here = format!("{path}.endpoints[{i}]");
        if let Some(first) = seen.insert(address, here.clone()) {
            scope.fault(
                &here,
                format!("the endpoint {text} is named twice"),
                format!("also {first}"),
            );
        }
        endpoints.push(address);
    }
    endpoints
}

fn check_localities(
    scope: &mut Scope<'_>,
    localities: &[LocalEndpoints],
    path: &str,
    seen: &mut BTreeMap<SocketAddr, String>,
) -> Vec<mesh::LocalEndpoints> {
    let mut places = BTreeMap::new();
    let mut all = Vec::with_capacity(localities.len());
    for (i, it) in localities.iter().enumerate() {
        let path = format!("{path}.localities[{i}]");
        let place = (&it.region, &it.zone, &it.sub_zone);
        if [place.0, place.1, place.2].into_iter().all(String::is_empty) {
            scope.fault(
                &path,
                "a locality has a name",
                "such as zone: eu-1a; instances without one are written in `endpoints`",
            );
        } else if let Some(first) = places.insert(place, path.clone()) {
            scope.fault(&path, "this locality is named twice", format!("also {first}"));
        }
        all.push(mesh::LocalEndpoints {
            region: it.region.clone(),
            zone: it.zone.clone(),
            sub_zone: it.sub_zone.clone(),
            endpoints: check_endpoints(scope, &it.endpoints, &path, seen),
            weight: it.weight,
        });
    }
    all
}

fn check_lifecycle(scope: &mut Scope<'_>, lifecycle: &Lifecycle, path: &str) {
    let mut time = |field: &str, text: &str| -> Option<Timestamp> {
        if text.is_empty() {
            return None;
        }
        let time = text.parse::<Timestamp>().ok().filter(|_| text.contains(['T', 't']));
        if time.is_none() {
            scope.fault(
                &format!("{path}.{field}"),
                format!("{} is not a time", quoted(text)),
                "RFC 3339, such as 2027-01-31T12:00:00Z",
            );
        }
        time
    };
    let deprecated = time("deprecatedAt", &lifecycle.deprecated_at);
    let sunset = time("sunsetAt", &lifecycle.sunset_at);
    if let (Some(deprecated), Some(sunset)) = (deprecated, sunset)
        && (sunset.seconds, sunset.nanos) < (deprecated.seconds, deprecated.nanos)
    {
        scope.fault(
            &format!("{path}.sunsetAt"),
            "the version goes before it is deprecated",
            "sunsetAt is not earlier than deprecatedAt (RFC 9745)",
        );
    }
}

fn protocol(protocol: Spoken) -> mesh::Protocol {
    match protocol {
        Spoken::Unspecified | Spoken::Http => mesh::Protocol::Http,
        Spoken::Http2 => mesh::Protocol::Http2,
        Spoken::Grpc => mesh::Protocol::Grpc,
        Spoken::Tcp => mesh::Protocol::Tcp,
        Spoken::Mcp => mesh::Protocol::Mcp,
        Spoken::Llm => mesh::Protocol::Llm,
    }
}
