//! Envoy, one worker, with a static configuration: one route, a weighted split by a hashed header.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use segue_tests::process::{Process, Program};
use serde_json::{Value, json};

use super::{Proxy, Setup, free_address, wait_for_port};
use crate::upstream::Upstream;

/// Path of Envoy's binary, set by `cargo xtask`.
pub const ENVOY: &str = "SEGUE_ENVOY";

pub fn start(setup: Setup, upstream: &Upstream, dir: &Path, core: u32) -> io::Result<Proxy> {
    let address = free_address()?;
    let process = run(&bootstrap(setup, upstream, address), dir, core)?;
    wait_for_port(address)?;
    Ok(Proxy { name: "envoy", address, pid: process.id(), _keep: vec![Box::new(process)] })
}

/// Starts one that takes everything from a control plane, over delta ADS, and tells where callers'
/// requests will be taken.
pub fn start_with_xds(xds: SocketAddr, dir: &Path, core: u32) -> io::Result<(Process, SocketAddr)> {
    let address = free_address()?;
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    let bootstrap = json!({
        "node": {"id": "bench-envoy", "cluster": "caller", "metadata": {
            "outbound_address": address.to_string()}},
        "dynamic_resources": {
            "ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "control-plane"}}]},
            "lds_config": ads, "cds_config": ads},
        "static_resources": {"clusters": [{
            "name": "control-plane", "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": protocol_options("http2_protocol_options"),
            "load_assignment": {"cluster_name": "control-plane", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": socket(xds)}}]}]}}]}
    });
    Ok((run(&bootstrap, dir, core)?, address))
}

fn run(bootstrap: &Value, dir: &Path, core: u32) -> io::Result<Process> {
    let file = dir.join("envoy.json");
    fs::write(&file, bootstrap.to_string())?;
    let binary = std::env::var(ENVOY).unwrap_or_else(|_| "envoy".into());
    Program::new("envoy", "taskset", dir)
        .flag("-c", core.to_string())
        .arg(binary)
        .flag("--concurrency", "1")
        .flag("--log-level", "error")
        .arg("--disable-hot-restart")
        .flag("-c", &file)
        .start()
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {
        "address": address.ip().to_string(), "port_value": address.port()}})
}

fn protocol_options(protocol: &str) -> Value {
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {protocol: {}}}})
}

fn bootstrap(setup: Setup, upstream: &Upstream, address: SocketAddr) -> Value {
    let up = if setup.legs.upstream_http2 { upstream.http2 } else { upstream.http1 };
    let routes: Vec<Value> = setup.prefixes().iter().map(|prefix| route(prefix)).collect();
    let protocol =
        if setup.legs.upstream_http2 { "http2_protocol_options" } else { "http_protocol_options" };
    let cluster = |name: &str| {
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "1s",
            "circuit_breakers": {"thresholds": [{"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096}]},
            "typed_extension_protocol_options": protocol_options(protocol),
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
                    "route_config": {"virtual_hosts": [{"name": "chat", "domains": ["chat"], "routes": routes}]},
                    "http_filters": [{"name": "router", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]
                }}]}]}],
            "clusters": [cluster("v1"), cluster("v2")]
        }
    })
}

fn route(prefix: &str) -> Value {
    json!({
        "match": {"prefix": prefix},
        "route": {
            "weighted_clusters": {"use_hash_policy": true, "clusters": [
                {"name": "v1", "weight": 5000}, {"name": "v2", "weight": 5000}]},
            "hash_policy": [{"header": {"header_name": "x-user-id"}}]}
    })
}
