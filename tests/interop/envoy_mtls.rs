//! Real Envoy and our sidecar show each other who they are, both ways.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use segue_tests::authority::{Authority, Files};
use segue_tests::fetch::Fetch;
use segue_tests::load::Protocol;
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

/// An Envoy that takes requests at one address and sends them to another, with TLS at one end.
struct Envoy {
    address: SocketAddr,
    _process: Process,
}

enum End {
    /// It is called by workloads of the mesh.
    Server,
    /// It calls a workload of the mesh.
    Client,
}

impl Envoy {
    fn start(mesh: &Mesh, program: &Path, end: &End, own: &Files, to: SocketAddr) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (name, config) = match end {
            End::Server => ("server", config(address, Some(downstream(own)), to, None)),
            End::Client => ("client", config(address, None, to, Some(upstream(own)))),
        };
        let file = mesh.file(&format!("envoy-{name}.json"), &config.to_string()).unwrap();
        let process = Program::new(format!("envoy-{name}"), program, mesh.dir())
            .flag("--concurrency", "1")
            .flag("--log-level", "warning")
            .arg("--disable-hot-restart")
            .flag("-c", file)
            .start()
            .unwrap();
        wait::until("Envoy listens", START_LIMIT, || std::net::TcpStream::connect(address).ok())
            .unwrap_or_else(|error| panic!("{error}: {}", process.log_tail()));
        Self { address, _process: process }
    }
}

fn config(
    listen: SocketAddr,
    downstream: Option<Value>,
    to: SocketAddr,
    upstream: Option<Value>,
) -> Value {
    let at = |address: SocketAddr| {
        json!({"socket_address": {
            "address": address.ip().to_string(), "port_value": address.port()}})
    };
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"uri": true},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "to"}}]}]},
        "http_filters": [{"name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]
    });
    let mut chain = json!({"filters": [
        {"name": "http", "typed_config": manager}]});
    if let Some(downstream) = downstream {
        chain["transport_socket"] = downstream;
    }
    let mut cluster = json!({
        "name": "to", "type": "STATIC", "connect_timeout": "2s",
        "load_assignment": {"cluster_name": "to", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": at(to)}}]}]}
    });
    if let Some(upstream) = upstream {
        cluster["transport_socket"] = upstream;
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}}}});
    }
    json!({"static_resources": {
        "listeners": [{"name": "in", "address": at(listen), "filter_chains": [chain]}],
        "clusters": [cluster]
    }})
}

/// What both ends have in common. `peer`: who the other one must be.
// A client of Envoy stops at TLS 1.2 unless it is told.
fn common(own: &Files, peer: &str) -> Value {
    json!({
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": ["h2"],
        "tls_certificates": [{
            "certificate_chain": {"filename": own.certificate},
            "private_key": {"filename": own.key}}],
        "validation_context": {
            "trusted_ca": {"filename": own.bundle},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}]}
    })
}

fn downstream(own: &Files) -> Value {
    json!({"name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": true,
        "common_tls_context": common(own, "spiffe://mesh.local/ns/default/sa/caller")}})
}

fn upstream(own: &Files) -> Value {
    json!({"name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "chat.default",
        "common_tls_context": common(own, "spiffe://mesh.local/ns/default/sa/chat")}})
}

fn sidecar(mesh: &Mesh, node: &str, service: &str, own: &Files, app: &str) -> Sidecar {
    let identity = own.flags();
    let mut flags: Vec<(&str, &str)> =
        identity.iter().map(|(flag, value)| (*flag, value.as_str())).collect();
    flags.extend([("--service", service), ("--app-address", app)]);
    mesh.sidecar_with(node, &flags).unwrap()
}

#[test]
fn an_envoy_calls_our_sidecar_as_a_workload_of_the_mesh() {
    let Some(program) = peers::or_skip(peers::envoy()) else { return };
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let authority = Authority::new(&mesh.dir().join("certificates")).unwrap();
    let app = mesh.echo("v1").unwrap();
    let own = authority.of_service("chat").unwrap();
    let chat = sidecar(&mesh, "chat-1", "chat", &own, &app.address.to_string());
    mesh.apply(&service("chat", &[("v1", vec![chat.inbound])])).unwrap();
    chat.wait_ready().unwrap();
    let caller = authority.of_service("caller").unwrap();
    let envoy = Envoy::start(&mesh, &program, &End::Client, &caller, chat.inbound);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for _ in 0..50 {
            let answer = Fetch::get(envoy.address, "/").host("chat").protocol(protocol).send();
            let answer = answer.unwrap();
            assert_eq!(answer.status, 200, "{protocol:?} {answer:?}");
        }
    }
    assert!(chat.counted("segue_tls_handshakes_total{end=\"server\",kind=\"full\"}").unwrap() >= 1);
    assert_eq!(chat.counted("segue_tls_refusals_total").unwrap(), 0);
    // Another authority's is not let in.
    let stranger = Authority::new(&mesh.dir().join("elsewhere")).unwrap();
    let mut theirs = stranger.of_service("caller").unwrap();
    theirs.bundle = own.bundle;
    let envoy = Envoy::start(&mesh, &program, &End::Client, &theirs, chat.inbound);
    assert_eq!(Fetch::get(envoy.address, "/").host("chat").send().unwrap().status, 503);
    let refused = "segue_tls_refusals_total{end=\"server\",reason=\"unknown_authority\"}";
    assert!(chat.counted(refused).unwrap() >= 1);
}

#[test]
fn our_sidecar_calls_an_envoy_as_a_workload_of_the_mesh() {
    let Some(program) = peers::or_skip(peers::envoy()) else { return };
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let authority = Authority::new(&mesh.dir().join("certificates")).unwrap();
    let app = mesh.echo("v1").unwrap();
    let chat = authority.of_service("chat").unwrap();
    let envoy = Envoy::start(&mesh, &program, &End::Server, &chat, app.address);
    let own = authority.of_service("caller").unwrap();
    let caller = sidecar(&mesh, "caller-1", "caller", &own, "127.0.0.1:9");
    let yaml = service("chat", &[("v1", vec![envoy.address])]) + MESH;
    mesh.apply(&yaml).unwrap();
    caller.wait_ready().unwrap();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for _ in 0..50 {
            let answer = Fetch::get(caller.outbound, "/").host("chat").protocol(protocol).send();
            assert_eq!(answer.unwrap().status, 200, "{protocol:?}");
        }
    }
    assert!(
        caller.counted("segue_tls_handshakes_total{end=\"client\",kind=\"full\"}").unwrap() >= 1
    );
    // An Envoy that is somebody else is sent nothing.
    let cart = authority.of_service("cart").unwrap();
    let impostor = Envoy::start(&mesh, &program, &End::Server, &cart, app.address);
    let yaml = service("chat", &[("v1", vec![impostor.address])]) + MESH;
    mesh.apply(&yaml).unwrap();
    let answer = wait::until("the change is there", START_LIMIT, || {
        let answer = Fetch::get(caller.outbound, "/").host("chat").send().ok()?;
        (answer.status != 200).then_some(answer.status)
    });
    assert_eq!(answer.unwrap(), 503);
    let refused = "segue_tls_refusals_total{end=\"client\",reason=\"other_identity\"}";
    assert!(caller.counted(refused).unwrap() >= 1);
}
