//! Python programs of this folder, and a mesh around them.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use segue_tests::mesh::{Mesh, Sidecar};
use segue_tests::process::{Process, Program};
use segue_tests::written::service_of;

/// Longest time that all cases of a program may take together.
const PATIENCE: Duration = Duration::from_mins(5);

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

/// A program of this folder.
pub fn script(name: &str) -> PathBuf {
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
    let mut command = Command::new(python);
    command.arg(script(name)).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = output_of(command.spawn().unwrap());
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

/// What a program prints until its end; one that takes too long is killed.
fn output_of(mut child: Child) -> Output {
    let stdout = child.stdout.take().map(|pipe| thread::spawn(|| read(pipe)));
    let stderr = child.stderr.take().map(|pipe| thread::spawn(|| read(pipe)));
    let late = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() >= late {
            child.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(20));
    };
    let all = |reading: Option<JoinHandle<Vec<u8>>>| reading.unwrap().join().unwrap();
    Output { status, stdout: all(stdout), stderr: all(stderr) }
}

fn read(mut pipe: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    pipe.read_to_end(&mut all).unwrap();
    all
}
