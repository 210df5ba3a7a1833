//! Certificates and roots are replaced under load, and nobody notices.

use std::fs;
use std::time::Duration;

use segue_tests::authority::{Authority, Files};
use segue_tests::load::{Load, Pace, Plan, Report};
use segue_tests::mesh::{Mesh, Sidecar};
use segue_tests::mixed::{Long, Targets};
use segue_tests::wait;
use segue_tests::written::{service, service_of};
use serde_json::Value;

use crate::alone;
use crate::identity::member;

const PATIENCE: Duration = Duration::from_secs(20);
/// How often the certificates of all three sidecars are replaced; a new one is seen within a second.
const ROTATIONS: &str = "SEGUE_ROTATIONS";
const USUAL_ROTATIONS: u64 = 8;

const POLICIES: &str = "apiVersion: segue.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: chat}
spec:
  targetRef: {kind: Service, name: chat}
  tls: {mode: Mesh}
---
apiVersion: segue.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: calls}
spec:
  targetRef: {kind: Service, name: calls}
  tls: {mode: Mesh}
";

/// 200 connections, a long stream of gRPC and a long WebSocket.
struct Everyone {
    load: Load,
    long: Long,
}

impl Everyone {
    fn start(caller: &Sidecar) -> Self {
        let plan = Plan {
            http1_connections: 150,
            http2_connections: 50,
            http2_streams: 2,
            pace: Pace::Open(300.0),
            ..Plan::new(caller.outbound, "chat")
        };
        let targets = Targets {
            sidecar: caller.outbound,
            http: "chat".to_owned(),
            grpc: "calls".to_owned(),
            tcp: String::new(),
        };
        Self { load: Load::start(plan).unwrap(), long: Long::start(&targets).unwrap() }
    }

    fn stop(self) -> (Report, (u64, u64)) {
        let long = self.long.stop().unwrap_or_else(|error| panic!("{error}"));
        (self.load.stop(), long)
    }
}

fn configuration(chat: &Sidecar, calls: &Sidecar) -> String {
    service("chat", &[("v1", vec![chat.inbound])])
        + &service_of("grpc", "calls", &[("v1", vec![calls.inbound])])
        + POLICIES
}

fn full_handshakes(sidecar: &Sidecar, end: &str) -> u64 {
    let series = format!("segue_tls_handshakes_total{{end=\"{end}\",kind=\"full\"}}");
    sidecar.counted(&series).unwrap()
}

fn authority(mesh: &Mesh) -> Value {
    let told = mesh.segue_ok(&["certs", "status", "-o", "json"]).unwrap();
    serde_json::from_str(&told).unwrap()
}

/// A mesh whose control plane is the authority, and its three sidecars: `chat`, `calls`, the caller.
fn issued(mesh: &Mesh) -> [Sidecar; 3] {
    let app = mesh.echo("v1").unwrap().address.to_string();
    let flags = [("--app-address", app.as_str()), ("--identity-spread-seconds", "1")];
    let members =
        ["chat", "calls", "caller"].map(|name| member(mesh, &format!("{name}-1"), name, &flags));
    mesh.apply(&configuration(&members[0], &members[1])).unwrap();
    for sidecar in &members {
        sidecar.wait_ready().unwrap();
    }
    members
}

#[test]
fn the_root_of_the_mesh_is_replaced_without_a_failed_request() {
    let _turn = alone();
    let mesh = Mesh::start_with_tokens().unwrap();
    let members = issued(&mesh);
    let before = authority(&mesh);
    assert_eq!((before["step"].as_str(), before["holders"].as_u64()), (Some("steady"), Some(3)));
    let everyone = Everyone::start(&members[2]);
    let told = mesh.segue_ok(&["certs", "rotate-root", "--timeout", "2m"]).unwrap();
    // The steps in their order, each when the one before is in effect everywhere.
    let steps = ["1 of 3, distribute", "2 of 3, issue", "3 of 3, drop", "none: one root"];
    let places = steps.map(|step| told.find(step).unwrap_or_else(|| panic!("{step}: {told}")));
    assert!(places.is_sorted(), "{told}");
    let after = authority(&mesh);
    let roots = |told: &Value| {
        let roots = told["roots"].as_array().unwrap().iter();
        roots.map(|root| root["fingerprint"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((roots(&before).len(), roots(&after).len()), (1, 1), "{told}");
    assert_ne!(roots(&before), roots(&after));
    for sidecar in &members {
        assert_eq!(sidecar.counted("segue_identity_renewals_total").unwrap(), 2, "{told}");
    }
    assert!(full_handshakes(&members[0], "server") > 1, "connections begin with the new one");
    let (requests, long) = everyone.stop();
    println!("{told}{requests}\n{long:?}");
    assert_eq!(requests.failed, 0, "{requests}");
    for sidecar in &members {
        assert_eq!(sidecar.counted("segue_tls_refusals_total").unwrap(), 0);
    }
}

/// The control plane dies while all believe both roots; what it had begun it ends.
#[test]
fn a_rotation_goes_on_after_a_crash_and_does_not_forget_whoever_is_away() {
    let _turn = alone();
    let mut mesh = Mesh::start_with_tokens().unwrap();
    let mut members = issued(&mesh);
    let everyone = Everyone::start(&members[2]);
    // One of them is away: its certificate counts for hours, so that it is waited for.
    let away = mesh.echo("v1").unwrap().address.to_string();
    let mut away = member(&mesh, "away-1", "away", &[("--app-address", &away)]);
    away.wait_ready().unwrap();
    away.terminate().unwrap();
    mesh.segue_ok(&["certs", "rotate-root", "--no-wait"]).unwrap();
    let waiting = wait::until("all but one believe the new root", PATIENCE, || {
        let told = authority(&mesh);
        (told["waitingTotal"] == 1).then_some(told)
    });
    let waiting = waiting.unwrap();
    assert_eq!(waiting["step"], "distribute");
    assert_eq!(waiting["waiting"][0]["nodeId"], "away-1");
    mesh.control_plane().kill9().unwrap();
    mesh.control_plane().restart().unwrap();
    let still = wait::until("the control plane is back", PATIENCE, || {
        mesh.segue_ok(&["certs", "status", "-o", "json"]).ok()
    });
    assert!(still.unwrap().contains("\"distribute\""));
    let told = mesh.segue_ok(&["certs", "rotate-root", "--without-absent", "--timeout", "2m"]);
    let told = told.unwrap();
    let (requests, long) = everyone.stop();
    println!("{told}{requests}\n{long:?}");
    assert_eq!(requests.failed, 0, "{requests}");
    assert_eq!(authority(&mesh)["step"], "steady");
    for sidecar in &mut members {
        assert_eq!(sidecar.counted("segue_identity_renewals_total").unwrap(), 2, "{told}");
    }
    // A new root that signs nothing may be let go.
    mesh.segue_ok(&["certs", "rotate-root", "--no-wait"]).unwrap();
    mesh.segue_ok(&["certs", "rotate-root", "--abort"]).unwrap();
    assert_eq!(authority(&mesh)["roots"].as_array().unwrap().len(), 1);
    let again = mesh.segue(&["certs", "rotate-root", "--abort"]).unwrap();
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("no rotation is under way"));
}

#[test]
fn certificates_are_replaced_again_and_again_without_a_failed_request() {
    let _turn = alone();
    let rotations: u64 = std::env::var(ROTATIONS)
        .ok()
        .map_or(USUAL_ROTATIONS, |count| count.parse().expect("a number of rotations"));
    let mesh = Mesh::start().unwrap();
    let authority = Authority::new(&mesh.dir().join("certificates")).unwrap();
    let app = mesh.echo("v1").unwrap().address.to_string();
    let members = ["chat", "calls", "caller"].map(|name| {
        let own = authority.of_service(name).unwrap().flags();
        let mut flags: Vec<(&str, &str)> =
            own.iter().map(|(flag, value)| (*flag, value.as_str())).collect();
        flags.extend([("--service", name), ("--app-address", app.as_str())]);
        mesh.sidecar_with(&format!("{name}-1"), &flags).unwrap()
    });
    mesh.apply(&configuration(&members[0], &members[1])).unwrap();
    for sidecar in &members {
        sidecar.wait_ready().unwrap();
    }
    let everyone = Everyone::start(&members[2]);
    for rotation in 0..rotations {
        for name in ["chat", "calls", "caller"] {
            replace(&authority, name);
        }
        wait::until("all show the new certificates", PATIENCE, || {
            let taken = |sidecar: &Sidecar| {
                sidecar.counted("segue_identity_renewals_total").unwrap() >= rotation + 1
            };
            members.iter().all(taken).then_some(())
        })
        .unwrap();
    }
    let (requests, long) = everyone.stop();
    println!("{rotations} rotations\n{requests}\n{long:?}");
    assert_eq!(requests.failed, 0, "{requests}");
    assert!(full_handshakes(&members[0], "server") > rotations);
    for sidecar in &members {
        assert_eq!(sidecar.counted("segue_tls_refusals_total").unwrap(), 0);
    }
}

/// As whoever keeps such files replaces them: a key and a certificate that do not fit each other for
/// a moment are taken when both are there.
fn replace(authority: &Authority, service: &str) {
    let next = authority.of_service_but("next", service, |_| Ok(())).unwrap();
    let Files { certificate, key, .. } = &next;
    let own = |file: &std::path::Path, extension: &str| {
        file.with_file_name(format!("{service}.{extension}"))
    };
    fs::rename(key, own(key, "key")).unwrap();
    fs::rename(certificate, own(certificate, "pem")).unwrap();
}
