//! The proxies, each with one worker on one core: mTLS with callers, HTTP/1.1 to the upstream. All
//! ask for a certificate, take TLS 1.3 alone, and give tickets.

use std::any::Any;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use segue_tests::authority::Files;
use segue_tests::binaries::Binaries;
use segue_tests::process::{Process, Program};
use segue_tests::{fetch, wait, written};
use serde_json::json;

use crate::peers::envoy::ENVOY;
use crate::peers::{Family, free_address, segue, wait_for_port};

/// A proxy under measurement.
pub struct Proxy {
    pub name: &'static str,
    pub address: SocketAddr,
    pub pid: u32,
    _keep: Vec<Box<dyn Any>>,
}

/// Starts all that are wanted.
pub fn start_all(
    own: &Files,
    upstream: SocketAddr,
    dir: &Path,
    core: u32,
    other_core: u32,
    only: &[String],
) -> io::Result<Vec<Proxy>> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let mut proxies = Vec::new();
    if wanted("segue") {
        proxies.push(start_segue(own, upstream, dir, core, other_core)?);
    }
    for (name, start) in [
        ("envoy", start_envoy as fn(&Files, SocketAddr, &Path, u32) -> io::Result<Proxy>),
        ("haproxy", start_haproxy),
        ("nginx", start_nginx),
    ] {
        if wanted(name) {
            proxies.push(start(own, upstream, dir, core)?);
        }
    }
    Ok(proxies)
}

/// The sidecar beside an application, which is the upstream.
fn start_segue(
    own: &Files,
    upstream: SocketAddr,
    dir: &Path,
    core: u32,
    other_core: u32,
) -> io::Result<Proxy> {
    let binaries = Binaries::find()?;
    let control_plane = segue::control_plane(&binaries, dir, other_core)?;
    let xds = control_plane.listening("xds")?;
    let program = pinned("sidecar", core, dir)
        .arg(segue::sidecar_program(&binaries))
        .flag("--service", "app")
        .flag("--node-id", "bench")
        .flag("--workers", "1")
        .flag("--control-plane", format!("http://{xds}"))
        .flag("--app-address", upstream.to_string())
        .flag("--app-protocol", "http1")
        .flag("--max-requests-per-connection", "0")
        .flag("--inbound-address", "127.0.0.1:0")
        .flag("--outbound-address", "127.0.0.1:0")
        .flag("--admin-address", "127.0.0.1:0");
    let sidecar =
        own.flags().into_iter().fold(program, |it, (flag, value)| it.flag(flag, value)).start()?;
    let mut admin = segue_tests::admin::Admin::connect(control_plane.listening("admin")?)?;
    admin.apply(written::service("app", &[("v1", vec![upstream])]))?;
    let pages = sidecar.listening("admin")?;
    let patience = Duration::from_secs(20);
    wait::until("the sidecar is ready", patience, || fetch::text(pages, "/readyz").ok())?;
    let address = sidecar.listening("inbound")?;
    let pid = sidecar.id();
    Ok(Proxy {
        name: "segue",
        address,
        pid,
        _keep: vec![Box::new(sidecar), Box::new(control_plane)],
    })
}

fn start_envoy(own: &Files, upstream: SocketAddr, dir: &Path, core: u32) -> io::Result<Proxy> {
    let address = free_address()?;
    let socket = |address: SocketAddr| {
        json!({"socket_address": {
            "address": address.ip().to_string(), "port_value": address.port()}})
    };
    let tls = json!({"name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": true,
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"},
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [{
                "certificate_chain": {"filename": own.certificate},
                "private_key": {"filename": own.key}}],
            "validation_context": {"trusted_ca": {"filename": own.bundle}}}}});
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "app"}}]}]},
        "http_filters": [{"name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]});
    let bootstrap = json!({"static_resources": {
        "listeners": [{"name": "in", "address": socket(address), "filter_chains": [{
            "transport_socket": tls, "filters": [{"name": "http", "typed_config": manager}]}]}],
        "clusters": [{
            "name": "app", "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": socket(upstream)}}]}]}}]}});
    let file = dir.join("envoy-tls.json");
    fs::write(&file, bootstrap.to_string())?;
    let binary = std::env::var(ENVOY).unwrap_or_else(|_| "envoy".into());
    let process = pinned("envoy", core, dir)
        .arg(binary)
        .flag("--concurrency", "1")
        .flag("--log-level", "error")
        .arg("--disable-hot-restart")
        .flag("-c", &file)
        .start()?;
    started("envoy", address, process)
}

fn start_haproxy(own: &Files, upstream: SocketAddr, dir: &Path, core: u32) -> io::Result<Proxy> {
    let address = free_address()?;
    let (both, file) = (dir.join("haproxy.pem"), dir.join("haproxy-tls.cfg"));
    fs::write(&both, [fs::read(&own.certificate)?, fs::read(&own.key)?].concat())?;
    fs::write(
        &file,
        format!(
            "global
  nbthread 1
  maxconn 4096
  tune.ssl.default-dh-param 2048
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  option http-keep-alive
  http-reuse always
frontend in
  bind {address} ssl crt {both} ca-file {ca} verify required ssl-min-ver TLSv1.3 alpn h2,http/1.1
  default_backend app
backend app
  server up {upstream}
",
            both = both.display(),
            ca = own.bundle.display(),
        ),
    )?;
    let process =
        pinned("haproxy", core, dir).arg("haproxy").arg("-db").flag("-f", &file).start()?;
    started("haproxy", address, process)
}

fn start_nginx(own: &Files, upstream: SocketAddr, dir: &Path, core: u32) -> io::Result<Proxy> {
    let address = free_address()?;
    let file = dir.join("nginx-tls.conf");
    fs::write(
        &file,
        format!(
            "daemon off; worker_processes 1; pid {dir}/nginx-tls.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 300s;
  client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
  uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
  upstream app {{ server {upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{ listen {address} ssl; ssl_protocols TLSv1.3;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    ssl_client_certificate {bundle}; ssl_verify_client on; ssl_session_tickets on;
    proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host;
    location / {{ proxy_pass http://app; }} }}
}}",
            dir = dir.display(),
            certificate = own.certificate.display(),
            key = own.key.display(),
            bundle = own.bundle.display(),
        ),
    )?;
    let process = pinned("nginx", core, dir).arg("nginx").flag("-c", &file).start()?;
    wait_for_port(address)?;
    let pid = process.id();
    Ok(Proxy { name: "nginx", address, pid, _keep: vec![Box::new(Family(process))] })
}

fn pinned(name: &str, core: u32, dir: &Path) -> Program {
    Program::new(name, "taskset", dir).flag("-c", core.to_string())
}

fn started(name: &'static str, address: SocketAddr, process: Process) -> io::Result<Proxy> {
    wait_for_port(address)?;
    Ok(Proxy { name, address, pid: process.id(), _keep: vec![Box::new(process)] })
}
