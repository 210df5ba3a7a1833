//! gRPC's own library with certificates from files: its xDS client is a workload of the mesh to our
//! sidecar, and its server is one that our sidecar calls.

use std::path::Path;

use segue_tests::authority::{Authority, Files};
use segue_tests::mesh::{Mesh, Sidecar};
use segue_tests::peers;
use segue_tests::process::Program;
use segue_tests::wait;
use segue_tests::written::service_of;

use crate::alone;
use crate::script::{pass, script};

const MESH: &str = "apiVersion: segue.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: app}
spec:
  targetRef: {kind: Service, name: app}
  tls: {mode: Mesh}
";

fn sidecar(mesh: &Mesh, node: &str, own: &Files, flags: &[(&str, &str)]) -> Sidecar {
    let identity = own.flags();
    let mut all: Vec<(&str, &str)> =
        identity.iter().map(|(flag, value)| (*flag, value.as_str())).collect();
    all.extend(flags);
    mesh.sidecar_with(node, &all).unwrap()
}

#[test]
fn grpcs_xds_client_calls_our_sidecar_as_a_workload_of_the_mesh() {
    let Some(python) = peers::or_skip(peers::grpc_python()) else { return };
    let _turn = alone();
    let mut mesh = Mesh::start().unwrap();
    let dir = mesh.dir().join("certificates");
    let authority = Authority::new(&dir).unwrap();
    let app = mesh.echo("v1").unwrap();
    let own = authority.of_service("app").unwrap();
    let address = app.address.to_string();
    let app = sidecar(&mesh, "app-1", &own, &[("--service", "app"), ("--app-address", &address)]);
    mesh.apply(&(service_of("grpc", "app", &[("v1", vec![app.inbound])]) + MESH)).unwrap();
    app.wait_ready().unwrap();
    authority.of_service("caller").unwrap();
    let elsewhere = dir.join("elsewhere");
    let theirs = Authority::new(&elsewhere).unwrap().of_service("caller").unwrap();
    std::fs::copy(theirs.certificate, dir.join("stranger.pem")).unwrap();
    std::fs::copy(theirs.key, dir.join("stranger.key")).unwrap();
    let xds = mesh.control_plane().xds_address.to_string();
    let dir = dir.to_string_lossy();
    let arguments = [xds.as_str(), &dir, "caller", "stranger"];
    assert_eq!(pass(&python, "grpc_mtls_cases.py", &arguments), 2);
    assert!(app.counted("segue_tls_handshakes_total{end=\"server\",kind=\"full\"}").unwrap() >= 1);
    let refused = "segue_tls_refusals_total{end=\"server\",reason=\"unknown_authority\"}";
    assert!(app.counted(refused).unwrap() >= 1);
    assert_eq!(
        app.counted("segue_tls_refusals_total").unwrap(),
        app.counted(refused).unwrap(),
        "nobody else is refused"
    );
}

#[test]
fn our_sidecar_calls_a_server_of_grpc_that_asks_for_certificates() {
    let Some(python) = peers::or_skip(peers::grpc_python()) else { return };
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let dir = mesh.dir().join("certificates");
    let authority = Authority::new(&dir).unwrap();
    for name in ["app", "other"] {
        authority.of_service(name).unwrap();
    }
    let own = authority.of_service("caller").unwrap();
    let caller = sidecar(&mesh, "caller-1", &own, &[]);
    let target = caller.outbound.to_string();
    // The one, then one that has the place of `app` and is somebody else.
    for (name, expected) in [("app", "spiffe://mesh.local/ns/default/sa/caller"), ("other", "")] {
        let server = Program::new(format!("grpc-{name}"), &python, mesh.dir())
            .arg(script("grpc_mtls_server.py"))
            .arg(Path::new(&dir))
            .arg(name)
            .start()
            .unwrap();
        let address = server.listening("grpc").unwrap();
        let revision = mesh.apply(&(service_of("grpc", "app", &[("v1", vec![address])]) + MESH));
        revision.unwrap();
        wait::until("the sidecar has it", std::time::Duration::from_secs(20), || {
            caller.wait_ready().ok()
        })
        .unwrap();
        assert_eq!(pass(&python, "grpc_who_cases.py", &[target.as_str(), "app", expected]), 1);
    }
    let refused = "segue_tls_refusals_total{end=\"client\",reason=\"other_identity\"}";
    assert!(caller.counted(refused).unwrap() >= 1);
}
