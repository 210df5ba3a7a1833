//! Envoy, one worker, with a static configuration: one route, a weighted split by a hashed header.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use segue_tests::process::Program;
use serde_json::{Value, json};

use super::{Legs, Proxy, free_address, wait_for_port};
use crate::upstream::Upstream;

/// Path of Envoy's binary, set by `cargo xtask`.
pub const ENVOY: &str = "SEGUE_ENVOY";

pub fn start(legs: Legs, upstream: &Upstream, dir: &Path, core: u32) -> io::Result<Proxy> {
    let address = free_address()?;
    let file = dir.join("envoy.json");
    fs::write(&file, bootstrap(legs, upstream, address).to_string())?;
    let binary = std::env::var(ENVOY).unwrap_or_else(|_| "envoy".into());
    let process = Program::new("envoy", "taskset", dir)
        .flag("-c", core.to_string())
        .arg(binary)
        .flag("--concurrency", "1")
        .flag("--log-level", "error")
        .arg("--disable-hot-restart")
        .flag("-c", &file)
        .start()?;
    wait_for_port(address)?;
    Ok(Proxy { name: "envoy", address, pid: process.id(), _keep: vec![Box::new(process)] })
}

fn bootstrap(legs: Legs, upstream: &Upstream, address: SocketAddr) -> Value {
    let up = if legs.upstream_http2 { upstream.http2 } else { upstream.http1 };
    let socket = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let protocol =
        if legs.upstream_http2 { "http2_protocol_options" } else { "http_protocol_options" };
    let cluster = |name: &str| {
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "1s",
            "circuit_breakers": {"thresholds": [{"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096}]},
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {protocol: {}}}},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": socket(up)}}]}]}
        })
    };
    json!({
        "static_resources": {
            "listeners": [{"name": "in", "address": socket(address), "filter_chains": [{"filters": [{
                "name": "hcm", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": "in", "codec_type": "AUTO",
                    "http2_protocol_options": {"max_concurrent_streams": 1024},
                    "route_config": {"virtual_hosts": [{"name": "chat", "domains": ["chat"], "routes": [{
                        "match": {"prefix": "/"},
                        "route": {
                            "weighted_clusters": {"use_hash_policy": true, "clusters": [
                                {"name": "v1", "weight": 5000}, {"name": "v2", "weight": 5000}]},
                            "hash_policy": [{"header": {"header_name": "x-user-id"}}]}}]}]},
                    "http_filters": [{"name": "router", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]
                }}]}]}],
            "clusters": [cluster("v1"), cluster("v2")]
        }
    })
}
