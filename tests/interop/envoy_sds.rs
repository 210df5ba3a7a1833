//! Real Envoy takes who it is, and whom it believes, from the control plane by SDS on its stream, and
//! speaks mTLS with our sidecar, both ways; also while the root of the mesh is replaced.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use segue_tests::fetch::Fetch;
use segue_tests::mesh::{Mesh, Sidecar};
use segue_tests::peers;
use segue_tests::process::{Process, Program};
use segue_tests::wait;
use segue_tests::written::service;
use serde_json::{Value, json};

use crate::alone;

const START_LIMIT: Duration = Duration::from_secs(30);
const MESH: &str = "apiVersion: segue.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: chat}
spec:
  targetRef: {kind: Service, name: chat}
  tls: {mode: Mesh}
";

/// An Envoy of a service, which follows the control plane with a token of that service.
struct Envoy {
    /// Where it takes requests for the mesh, or from the mesh.
    address: SocketAddr,
    process: Process,
}

impl Envoy {
    fn start(mesh: &mut Mesh, program: &Path, service: &str, resources: &Value) -> Self {
        let token = mesh.segue_ok(&["token", "create", "--service", service]).unwrap();
        let address = free();
        let config = bootstrap(mesh.control_plane().xds_address, service, token.trim(), resources);
        let config = config.to_string().replace("\"LISTEN\"", &listen(address).to_string());
        let file = mesh.file(&format!("envoy-{service}.json"), &config).unwrap();
        let process = Program::new(format!("envoy-{service}"), program, mesh.dir())
            .flag("--concurrency", "1")
            .flag("--log-level", "warning")
            .arg("--disable-hot-restart")
            .flag("-c", file)
            .start()
            .unwrap();
        wait::until("Envoy listens", START_LIMIT, || std::net::TcpStream::connect(address).ok())
            .unwrap_or_else(|error| panic!("{error}: {}", process.log_tail()));
        Self { address, process }
    }

    /// Waits until a request through it is answered.
    fn wait_serving(&self) {
        wait::until("a call through Envoy", START_LIMIT, || {
            let answer = Fetch::get(self.address, "/").host("chat").send().ok()?;
            (answer.status == 200).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}: {}", self.process.log_tail()));
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn listen(address: SocketAddr) -> Value {
    json!({"socket_address": {
        "address": address.ip().to_string(), "port_value": address.port()}})
}

/// Who it is to the control plane, and static resources that name secrets of the stream.
fn bootstrap(xds: SocketAddr, service: &str, token: &str, resources: &Value) -> Value {
    let mut resources = resources.clone();
    let http2 = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}}});
    let clusters = resources["clusters"].as_array_mut().unwrap();
    clusters.push(json!({
        "name": "control-plane", "type": "STATIC", "connect_timeout": "2s",
        "typed_extension_protocol_options": http2,
        "load_assignment": {"cluster_name": "control-plane", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": listen(xds)}}]}]}}));
    json!({
        "node": {"id": format!("envoy-{service}"), "cluster": service,
            "metadata": {"outbound_address": "127.0.0.1:0"}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC", "transport_api_version": "V3",
                "grpc_services": [{
                    "envoy_grpc": {"cluster_name": "control-plane"},
                    "initial_metadata": [
                        {"key": "authorization", "value": format!("Bearer {token}")}]}]},
            "cds_config": {"ads": {}, "resource_api_version": "V3"}},
        "static_resources": resources
    })
}

fn manager(cluster: &str) -> Value {
    json!({"name": "http", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"validate_clusters": false, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]},
        "http_filters": [{"name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}})
}

/// It calls `chat` as the control plane's own cluster says: who to be and whom to believe are secrets
/// of the stream.
fn caller() -> Value {
    json!({
        "listeners": [{"name": "in", "address": "LISTEN",
            "filter_chains": [{"filters": [manager("default/chat/v1")]}]}],
        "clusters": []
    })
}

/// It stands before an application as `chat`.
fn called(app: SocketAddr) -> Value {
    let secret =
        |name: &str| json!({"name": name, "sds_config": {"ads": {}, "resource_api_version": "V3"}});
    json!({
        "listeners": [{"name": "in", "address": "LISTEN", "filter_chains": [{
            "filters": [manager("app")],
            "transport_socket": {"name": "tls", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "require_client_certificate": true,
                "common_tls_context": {
                    "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"},
                    "alpn_protocols": ["h2"],
                    "tls_certificate_sds_secret_configs": [secret("default")],
                    "combined_validation_context": {
                        "default_validation_context": {"match_typed_subject_alt_names": [
                            {"san_type": "URI", "matcher":
                                {"exact": "spiffe://mesh.local/ns/default/sa/caller"}}]},
                        "validation_context_sds_secret_config": secret("ROOTCA")}}}}}]}],
        "clusters": [{
            "name": "app", "type": "STATIC", "connect_timeout": "2s",
            "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": listen(app)}}]}]}}]
    })
}

fn member(mesh: &Mesh, node: &str, service: &str, app: &str) -> Sidecar {
    let flags = [
        ("--service", service),
        ("--app-address", app),
        ("--identity", "control-plane"),
        ("--identity-spread-seconds", "1"),
    ];
    mesh.sidecar_with(node, &flags).unwrap()
}

fn rotate(mesh: &Mesh) -> String {
    mesh.segue_ok(&["certs", "rotate-root", "--timeout", "2m"]).unwrap()
}

#[test]
fn an_envoy_that_has_its_identity_from_us_calls_our_sidecar() {
    let Some(program) = peers::or_skip(peers::envoy()) else { return };
    let _turn = alone();
    let mut mesh = Mesh::start_with_tokens().unwrap();
    let app = mesh.echo("v1").unwrap();
    let chat = member(&mesh, "chat-1", "chat", &app.address.to_string());
    mesh.apply(&(service("chat", &[("v1", vec![chat.inbound])]) + MESH)).unwrap();
    chat.wait_ready().unwrap();
    let envoy = Envoy::start(&mut mesh, &program, "caller", &caller());
    envoy.wait_serving();
    let before = shown_by(&mesh);
    let told = rotate(&mesh);
    assert!(told.contains("3 of 3"), "{told}");
    assert_ne!(shown_by(&mesh), before, "the root is another one");
    for _ in 0..50 {
        let answer = Fetch::get(envoy.address, "/").host("chat").send().unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert!(chat.counted("segue_tls_handshakes_total{end=\"server\",kind=\"full\"}").unwrap() >= 1);
    assert_eq!(chat.counted("segue_tls_refusals_total").unwrap(), 0);
    // Nobody else is told the key.
    let told = mesh.segue_ok(&["status", "-o", "json"]).unwrap();
    assert!(!told.contains("PRIVATE KEY"), "{told}");
}

#[test]
fn our_sidecar_calls_an_envoy_that_has_its_identity_from_us() {
    let Some(program) = peers::or_skip(peers::envoy()) else { return };
    let _turn = alone();
    let mut mesh = Mesh::start_with_tokens().unwrap();
    let app = mesh.echo("v1").unwrap();
    let caller = member(&mesh, "caller-1", "caller", "127.0.0.1:9");
    let envoy = Envoy::start(&mut mesh, &program, "chat", &called(app.address));
    mesh.apply(&(service("chat", &[("v1", vec![envoy.address])]) + MESH)).unwrap();
    caller.wait_ready().unwrap();
    let call = || Fetch::get(caller.outbound, "/").host("chat").send().unwrap().status;
    wait::until("the Envoy has its certificate", START_LIMIT, || (call() == 200).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", envoy.process.log_tail()));
    let told = rotate(&mesh);
    assert!(told.contains("3 of 3"), "{told}");
    for _ in 0..50 {
        assert_eq!(call(), 200);
    }
    assert!(
        caller.counted("segue_tls_handshakes_total{end=\"client\",kind=\"full\"}").unwrap() >= 1
    );
}

/// The root that signs now.
fn shown_by(mesh: &Mesh) -> Value {
    let told = mesh.segue_ok(&["certs", "status", "-o", "json"]).unwrap();
    serde_json::from_str::<Value>(&told).unwrap()["roots"][0]["fingerprint"].clone()
}
