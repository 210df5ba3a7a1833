//! Python programs of this folder, and a mesh around them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use segue_tests::mesh::{Mesh, Sidecar};
use segue_tests::process::{Process, Program};
use segue_tests::written::service_of;

/// Two sidecars on the way from a caller to an application.
pub struct Way {
    _mesh: Mesh,
    /// Where the caller sends its requests.
    pub outbound: SocketAddr,
    _sidecars: [Sidecar; 2],
}

impl Way {
    /// Service `app` of a protocol, whose only instance is behind its own sidecar.
    pub fn to(app: SocketAddr, protocol: &str) -> Self {
        let mesh = Mesh::start().unwrap();
        let app = app.to_string();
        let speaks = if protocol == "grpc" { "http2" } else { "auto" };
        let flags = [("--app-address", &*app), ("--app-protocol", speaks)];
        let beside_app = mesh.sidecar_with("app-1", &flags);
        let beside_app = beside_app.unwrap();
        let beside_caller = mesh.sidecar("caller-1").unwrap();
        mesh.apply(&service_of(protocol, "app", &[("v1", vec![beside_app.inbound])])).unwrap();
        Self {
            _mesh: mesh,
            outbound: beside_caller.outbound,
            _sidecars: [beside_app, beside_caller],
        }
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/scripts").join(name)
}

/// Starts a server and gives where it listens.
pub fn serve(python: &Path, name: &str, dir: &Path) -> (Process, SocketAddr) {
    let role = name.split('_').next().unwrap();
    let process = Program::new(name, python, dir).arg(script(&format!("{name}.py"))).start();
    let process = process.unwrap();
    let address = process.listening(role).unwrap();
    (process, address)
}

/// Runs cases to their end; each must have passed. Gives their number.
pub fn pass(python: &Path, name: &str, arguments: &[&str]) -> usize {
    let output = Command::new(python).arg(script(name)).args(arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = told.lines().filter(|line| !line.starts_with("ok ")).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    let Some(count) = failed.last().and_then(|line| line.strip_prefix("cases ")) else {
        panic!("{name} did not come to its end:\n{told}\n{errors}");
    };
    assert_eq!(failed.len(), 1, "{failed:#?}\n{errors}");
    let passed = told.lines().count() - 1;
    assert_eq!(count.parse(), Ok(passed), "{told}");
    passed
}
