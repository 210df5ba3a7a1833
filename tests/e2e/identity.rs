//! A service moves into the mesh: its instances join with tokens, get certificates, and from then on
//! speak mTLS to each other and plain text to nobody.

use std::time::Duration;

use segue_tests::fetch::{self, Fetch};
use segue_tests::load::{Load, Pace, Plan};
use segue_tests::mesh::{Mesh, Sidecar};
use segue_tests::wait;
use segue_tests::written::service;

use crate::alone;

const PATIENCE: Duration = Duration::from_secs(20);

/// A sidecar of a service, with a token that was made for it.
pub fn member(mesh: &Mesh, node: &str, service: &str, flags: &[(&str, &str)]) -> Sidecar {
    let token = mesh.segue_ok(&["token", "create", "--service", service, "--ttl", "5m"]).unwrap();
    let file = mesh.file(&format!("{node}.token"), &token).unwrap();
    let file = file.to_string_lossy();
    let mut all = vec![
        ("--service", service),
        ("--identity", "control-plane"),
        ("--inbound-mtls", "permissive"),
        ("--join-token-file", &*file),
    ];
    all.extend(flags);
    mesh.sidecar_with(node, &all).unwrap()
}

const MESH: &str = "apiVersion: segue.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: chat}
spec:
  targetRef: {kind: Service, name: chat}
  tls: {mode: Mesh}
  healthCheck: {http: {path: /}, interval: 200ms, timeout: 200ms}
";

const STRICT: &str = "---
apiVersion: segue.dev/v1alpha1
kind: AccessPolicy
metadata: {name: chat}
spec:
  targetRef: {kind: Service, name: chat}
  mtls: strict
";

#[test]
fn a_running_service_moves_into_the_mesh_without_a_failed_request() {
    let _turn = alone();
    let mut mesh = Mesh::start_with_tokens().unwrap();
    let apps = [mesh.echo("v1").unwrap(), mesh.echo("v1").unwrap()];
    let addresses: Vec<String> = apps.iter().map(|app| app.address.to_string()).collect();
    let chat: Vec<Sidecar> = addresses
        .iter()
        .enumerate()
        .map(|(i, app)| member(&mesh, &format!("chat-{i}"), "chat", &[("--app-address", app)]))
        .collect();
    let caller = member(&mesh, "caller-1", "caller", &[]);
    let service = service("chat", &[("v1", chat.iter().map(|it| it.inbound).collect())]);
    mesh.apply(&service).unwrap();
    for sidecar in chat.iter().chain([&caller]) {
        sidecar.wait_ready().unwrap();
        assert_eq!(sidecar.counted("segue_identity_renewals_total").unwrap(), 1);
    }
    let plan = Plan { pace: Pace::Open(200.0), ..Plan::new(caller.outbound, "chat") };
    let load = Load::start(plan).unwrap();
    // Plain text, as before; then callers show who they are; then nobody else is let in.
    let plain = || fetch::text(chat[0].inbound, "/");
    assert!(plain().is_ok());
    assert_eq!(
        caller.counted("segue_tls_handshakes_total{end=\"client\",kind=\"full\"}").unwrap(),
        0
    );
    mesh.apply(&format!("{service}{MESH}")).unwrap();
    wait::until("calls are encrypted", PATIENCE, || {
        (chat[1].counted("segue_tls_handshakes_total{end=\"server\",kind=\"full\"}").unwrap() > 0)
            .then_some(())
    })
    .unwrap();
    assert!(plain().is_ok(), "others are still let in");
    mesh.apply(&format!("{service}{MESH}{STRICT}")).unwrap();
    assert!(plain().is_err());
    assert!(
        chat[0].counted("segue_tls_refusals_total{end=\"server\",reason=\"plain_text\"}").unwrap()
            > 0
    );
    // What was issued holds while the control plane is away.
    mesh.control_plane().kill9().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    mesh.control_plane().restart().unwrap();
    let requests = load.stop();
    println!("{requests}");
    assert_eq!(requests.failed, 0, "{requests}");
    assert_eq!(caller.counted("segue_tls_refusals_total").unwrap(), 0);
    let tokens = mesh.segue_ok(&["token", "list"]).unwrap();
    assert_eq!(tokens.matches("0 of 1").count(), 3, "{tokens}");
}

#[test]
fn an_instance_of_another_service_is_nobody() {
    let _turn = alone();
    let mut mesh = Mesh::start_with_tokens().unwrap();
    let app = mesh.echo("v1").unwrap();
    let app = app.address.to_string();
    // What is called `chat` is an instance of `cart`.
    let cart = member(&mesh, "cart-1", "cart", &[("--app-address", &app)]);
    let caller = member(&mesh, "caller-1", "caller", &[]);
    let [one, other] = ["chat", "cart"].map(|name| service(name, &[("v1", vec![cart.inbound])]));
    let both = one + &other;
    mesh.apply(&format!("{both}{}", MESH.replace("  healthCheck", "  # healthCheck"))).unwrap();
    caller.wait_ready().unwrap();
    let answer = Fetch::get(caller.outbound, "/").host("chat").send().unwrap();
    assert_eq!(answer.status, 503);
    let reason = "segue_tls_refusals_total{end=\"client\",reason=\"other_identity\"}";
    assert!(caller.counted(reason).unwrap() > 0);
    // A token for one service is none for another.
    let token = mesh.segue_ok(&["token", "create", "--service", "chat"]).unwrap();
    let file = mesh.file("chat.token", &token).unwrap();
    let file = file.to_string_lossy();
    let flags =
        [("--service", "cart"), ("--identity", "control-plane"), ("--join-token-file", &*file)];
    let thief = mesh.sidecar_with("thief", &flags).unwrap();
    wait::until("it is refused", PATIENCE, || {
        (thief.counted("segue_identity_failures_total").unwrap() > 0).then_some(())
    })
    .unwrap();
    assert_eq!(thief.counted("segue_identity_renewals_total").unwrap(), 0);
    let metrics = mesh.control_plane().metrics().unwrap();
    assert!(metrics.contains("refused_certificates_total{reason=\"other_service\"}"), "{metrics}");
}
