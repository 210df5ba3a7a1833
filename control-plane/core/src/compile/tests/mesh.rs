//! Configurations for tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use segue_shared::ids::{Revision, ServiceName};

use crate::config::mesh::{
    Backend, Filters, Match, MeshConfig, PathMatch, Protocol, Route, Rule, Service, SplitBy,
    Version,
};

pub fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A service with versions and the ports of their endpoints; the first one is the default.
pub fn service(name: &str, protocol: Protocol, versions: &[(&str, &[u16])]) -> Service {
    let version = |(label, ports): &(&str, &[u16])| Version {
        label: label.parse().unwrap(),
        endpoints: ports.iter().map(|&port| at(port)).collect(),
        localities: Vec::new(),
        dns: None,
    };
    Service {
        name: name.parse().unwrap(),
        protocol,
        hosts: Vec::new(),
        port: 80,
        versions: versions.iter().map(version).collect(),
        default_version: versions[0].0.parse().unwrap(),
        depends_on: None,
    }
}

/// Edits one service of the default namespace.
pub fn edit(mesh: &mut MeshConfig, name: &str, edit: impl FnOnce(&mut Service)) {
    let service = mesh.services.get_mut(&name.parse::<ServiceName>().unwrap()).unwrap();
    edit(Arc::make_mut(service));
}

/// `chat` with v1 and v2, at revision 7.
pub fn chat() -> MeshConfig {
    mesh([service("chat", Protocol::Http, &[("v1", &[9001, 9002]), ("v2", &[9101])])])
}

pub fn mesh(services: impl IntoIterator<Item = Service>) -> MeshConfig {
    let services = services.into_iter().map(|service| (service.name.clone(), service)).collect();
    MeshConfig { revision: Revision(7), services, ..MeshConfig::default() }
}

/// Gives a service of the default namespace these rules.
pub fn routed(mut mesh: MeshConfig, name: &str, split_by: SplitBy, rules: Vec<Rule>) -> MeshConfig {
    let name: ServiceName = name.parse().unwrap();
    mesh.routes.insert(name.clone(), Route { name, split_by, rules }.into());
    mesh
}

/// A rule for one path with backends `(version of chat, weight)`.
pub fn rule(path: PathMatch, backends: &[(&str, u32)]) -> Rule {
    let backend = |&(version, weight): &(&str, u32)| Backend {
        service: "chat".parse().unwrap(),
        version: version.parse().unwrap(),
        weight,
    };
    Rule {
        name: String::new(),
        matches: vec![matched(path)],
        filters: Filters::default(),
        backends: backends.iter().map(backend).collect(),
        timeout: Some(Duration::from_secs(15)),
        try_timeout: None,
        stream_idle: None,
        retry: None,
    }
}

pub fn matched(path: PathMatch) -> Match {
    Match { path, headers: Vec::new(), query: Vec::new(), method: None }
}

pub fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(path.to_owned())
}
