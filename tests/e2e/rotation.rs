//! Certificates and roots are replaced under load, and nobody notices.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::date_time_ymd;
use segue_tests::authority::{Authority, Files};
use segue_tests::load::{Load, Pace, Plan, Report};
use segue_tests::mesh::{Application, Mesh, Sidecar};
use segue_tests::mixed::{Long, Targets};
use segue_tests::wait;
use segue_tests::written::{service, service_of};
use serde_json::Value;

use crate::alone;
use crate::identity::member;

const NAMES: [&str; 3] = ["chat", "calls", "caller"];
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the certificates of all three sidecars are replaced; a new one is seen within a second.
const ROTATIONS: &str = "SEGUE_ROTATIONS";
const USUAL_ROTATIONS: u64 = 15;

/// A life that outlasts the test.
const LONG_LIFE: Duration = Duration::from_hours(1);
/// A life that connections must not outlive, of certificates that are replaced every second.
const SHORT_LIFE: Duration = Duration::from_secs(8);

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
---
apiVersion: segue.dev/v1alpha1
kind: Route
metadata: {name: calls}
spec:
  targetRef: {name: calls}
  rules:
    - backendRefs: [{name: calls, version: v1}]
      timeouts: {request: 0s}
";

/// 200 connections, a long stream of gRPC and a long WebSocket.
struct Everyone {
    load: Load,
    long: Long,
}

impl Everyone {
    fn start(caller: &Sidecar) -> Self {
        let targets = Targets {
            sidecar: caller.outbound,
            http: "chat".to_owned(),
            grpc: "calls".to_owned(),
            tcp: String::new(),
        };
        Self { load: Load::start(plan(caller)).unwrap(), long: Long::start(&targets).unwrap() }
    }

    fn stop(self) -> (Report, (u64, u64)) {
        let long = self.long.stop().unwrap_or_else(|error| panic!("{error}"));
        (self.load.stop(), long)
    }
}

fn plan(caller: &Sidecar) -> Plan {
    Plan {
        http1_connections: 150,
        http2_connections: 50,
        http2_streams: 2,
        pace: Pace::Open(300.0),
        ..Plan::new(caller.outbound, "chat")
    }
}

fn configuration(chat: &Sidecar, calls: &Sidecar) -> String {
    service("chat", &[("v1", vec![chat.inbound])])
        + &service_of("grpc", "calls", &[("v1", vec![calls.inbound])])
        + POLICIES
}

fn handshakes(server: &Sidecar) -> u64 {
    server.counted("segue_tls_handshakes_total{end=\"server\",kind=\"full\"}").unwrap()
}

fn authority(mesh: &Mesh) -> Value {
    let told = mesh.segue_ok(&["certs", "status", "-o", "json"]).unwrap();
    serde_json::from_str(&told).unwrap()
}

/// Three sidecars whose authority is the control plane, before an application: `chat`, `calls`, and
/// the caller.
fn issued(mesh: &Mesh, app: &Application) -> [Sidecar; 3] {
    let app = app.address.to_string();
    let flags = [("--app-address", app.as_str()), ("--identity-spread-seconds", "1")];
    let members = NAMES.map(|name| member(mesh, &format!("{name}-1"), name, &flags));
    mesh.apply(&configuration(&members[0], &members[1])).unwrap();
    for sidecar in &members {
        sidecar.wait_ready().unwrap();
    }
    members
}

#[test]
fn the_root_of_the_mesh_is_replaced_without_a_failed_request() {
    let _turn = alone();
    let mut mesh = Mesh::start_with_identities().unwrap();
    let app = mesh.echo("v1").unwrap();
    let members = issued(&mesh, &app);
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
    let (requests, long) = everyone.stop();
    println!("{told}{requests}\n{long:?}");
    assert_eq!(requests.failed, 0, "{requests}");
    for sidecar in &members {
        assert_eq!(sidecar.counted("segue_tls_refusals_total").unwrap(), 0);
    }
    // They know the old root alone by their settings, and the control plane shows the new one.
    let streams = || {
        let opened = |it: &Sidecar| it.counted("segue_xds_streams").unwrap();
        members.iter().map(opened).collect::<Vec<u64>>()
    };
    let opened = streams();
    mesh.control_plane().restart().unwrap();
    wait::until("all are connected again", PATIENCE, || {
        let again = streams().iter().zip(&opened).all(|(now, before)| now > before);
        let connected = |it: &Sidecar| it.counted("segue_control_plane_connected").unwrap() == 1;
        (again && members.iter().all(connected)).then_some(())
    })
    .unwrap();
}

/// The control plane dies while all believe both roots; what it had begun it ends.
#[test]
fn a_rotation_goes_on_after_a_crash_and_does_not_forget_whoever_is_away() {
    let _turn = alone();
    let mut mesh = Mesh::start_with_identities().unwrap();
    let app = mesh.echo("v1").unwrap();
    let members = issued(&mesh, &app);
    let everyone = Everyone::start(&members[2]);
    // One of them is away: its certificate counts for hours, so that it is waited for.
    let mut away = member(&mesh, "away-1", "away", &[]);
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
    for sidecar in &members {
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

/// Handshakes that begin show the new certificates; what is open goes on.
#[test]
fn certificates_are_replaced_again_and_again_without_a_failed_request() {
    let _turn = alone();
    let files = ByFiles::start(LONG_LIFE);
    let everyone = Everyone::start(&files.members[2]);
    let rotations = rotations();
    for rotation in 0..rotations {
        files.rotate(rotation);
    }
    let (requests, long) = everyone.stop();
    println!("{rotations} rotations\n{requests}\n{long:?}");
    assert_eq!(requests.failed, 0, "{requests}");
    files.refused_nobody();
}

/// No connection is older than its certificate: calls move to new ones before that.
#[test]
fn connections_are_replaced_before_their_certificates_end() {
    let _turn = alone();
    let files = ByFiles::start(SHORT_LIFE);
    let load = Load::start(plan(&files.members[2])).unwrap();
    let rotations = rotations();
    for rotation in 0..rotations {
        files.rotate(rotation);
    }
    let requests = load.stop();
    let handshakes = handshakes(&files.members[0]);
    println!("{rotations} rotations, {handshakes} handshakes\n{requests}");
    assert_eq!(requests.failed, 0, "{requests}");
    // A rotation takes a second or more.
    assert!(handshakes > rotations / SHORT_LIFE.as_secs(), "{handshakes}");
    files.refused_nobody();
}

fn rotations() -> u64 {
    let asked = std::env::var(ROTATIONS).ok();
    asked.map_or(USUAL_ROTATIONS, |count| count.parse().expect("a number of rotations"))
}

/// Three sidecars whose certificates something else keeps new: `chat`, `calls`, and the caller.
struct ByFiles {
    members: [Sidecar; 3],
    authority: Authority,
    life: Duration,
    _app: Application,
    _mesh: Mesh,
}

impl ByFiles {
    fn start(life: Duration) -> Self {
        let mesh = Mesh::start().unwrap();
        let authority = Authority::new(&mesh.dir().join("certificates")).unwrap();
        let app = mesh.echo("v1").unwrap();
        let address = app.address.to_string();
        let members = NAMES.map(|name| {
            let own = authority.of_service(name).unwrap().flags();
            replace(&authority, name, life);
            let mut flags: Vec<(&str, &str)> =
                own.iter().map(|(flag, value)| (*flag, value.as_str())).collect();
            flags.extend([("--service", name), ("--app-address", address.as_str())]);
            mesh.sidecar_with(&format!("{name}-1"), &flags).unwrap()
        });
        mesh.apply(&configuration(&members[0], &members[1])).unwrap();
        for sidecar in &members {
            sidecar.wait_ready().unwrap();
        }
        Self { members, authority, life, _app: app, _mesh: mesh }
    }

    /// Replaces all certificates, after so many times that this was done.
    fn rotate(&self, before: u64) {
        let taken: Vec<u64> = self.members.iter().map(renewals).collect();
        for name in NAMES {
            replace(&self.authority, name, self.life);
        }
        wait::until("all show the new certificates", PATIENCE, || {
            let all = self.members.iter().zip(&taken);
            all.into_iter().all(|(sidecar, taken)| renewals(sidecar) > *taken).then_some(())
        })
        .unwrap_or_else(|error| panic!("rotation {before}: {error}"));
    }

    fn refused_nobody(&self) {
        for sidecar in &self.members {
            assert_eq!(sidecar.counted("segue_tls_refusals_total").unwrap(), 0);
        }
    }
}

fn renewals(sidecar: &Sidecar) -> u64 {
    sidecar.counted("segue_identity_renewals_total").unwrap()
}

/// As whoever keeps such files replaces them: a key and a certificate that do not fit each other for
/// a moment are taken when both are there.
fn replace(authority: &Authority, service: &str, life: Duration) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let next = authority
        .of_service_but("next", service, |certificate| {
            certificate.not_after = date_time_ymd(1970, 1, 1) + now + life;
            Ok(())
        })
        .unwrap();
    let Files { certificate, key, .. } = &next;
    let own = |file: &std::path::Path, extension: &str| {
        file.with_file_name(format!("{service}.{extension}"))
    };
    fs::rename(key, own(key, "key")).unwrap();
    fs::rename(certificate, own(certificate, "pem")).unwrap();
}
