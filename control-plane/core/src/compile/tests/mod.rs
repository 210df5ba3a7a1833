//! What the compiler writes, as golden files and as promises.

mod golden;
mod grpc;
mod mesh;
mod promises;
mod readable;
mod steps;
mod traffic;

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Compiler, NodeKind, ResolvedEndpoints};
use crate::config::mesh::MeshConfig;
use crate::snapshot::XdsSnapshot;

const ENVOY: NodeKind = NodeKind::Envoy {
    outbound_address: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7000),
};

/// A compiler that has compiled this and nothing before.
fn compiler(kind: NodeKind, config: &MeshConfig, endpoints: &ResolvedEndpoints) -> Compiler {
    let mut compiler = Compiler::new(kind);
    compiler.update(&Arc::new(config.clone()), &Arc::new(endpoints.clone())).unwrap();
    compiler
}

/// The snapshot of all services.
fn compiled(kind: NodeKind, config: &MeshConfig) -> Arc<XdsSnapshot> {
    compiler(kind, config, &ResolvedEndpoints::default()).whole()
}
