//! The sidecar as users run it: one worker, configuration from a real control plane.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use segue_tests::binaries::Binaries;
use segue_tests::process::{Process, Program};
use segue_tests::{fetch, wait, written};

use super::{Legs, Proxy, Setup, wait_for_port};
use crate::upstream::Upstream;

/// Paths of one rule: as many as it may have.
const MATCHES_OF_RULE: usize = 64;

/// A sidecar, and the control plane that it needs.
pub struct Mesh {
    pub sidecar: Process,
    pub address: SocketAddr,
    _control_plane: Process,
}

pub fn start(
    setup: Setup,
    upstream: &Upstream,
    dir: &Path,
    core: u32,
    other_core: u32,
) -> io::Result<Proxy> {
    let around = ["taskset".into(), "-c".into(), core.to_string()];
    let mesh = Mesh::start(setup, upstream, dir, &around, other_core, Duration::from_secs(20))?;
    let pid = mesh.sidecar.id();
    Ok(Proxy { name: "segue", address: mesh.address, pid, _keep: vec![Box::new(mesh)] })
}

impl Mesh {
    /// Starts the sidecar by way of the command `around`, and the rest on `other_core`.
    pub fn start(
        setup: Setup,
        upstream: &Upstream,
        dir: &Path,
        around: &[String],
        other_core: u32,
        patience: Duration,
    ) -> io::Result<Self> {
        let binaries = Binaries::find()?;
        let control_plane = control_plane(&binaries, dir, other_core)?;
        let sidecar = sidecar(&binaries, dir, around, control_plane.listening("xds")?)?;
        let address = sidecar.listening("outbound")?;
        apply(&binaries, setup, upstream, dir, &control_plane.listening("admin")?.to_string())?;
        let admin = sidecar.listening("admin")?;
        wait::until("the sidecar is ready", patience, || fetch::text(admin, "/readyz").ok())?;
        wait_for_port(address)?;
        Ok(Self { sidecar, address, _control_plane: control_plane })
    }
}

/// Starts a control plane on `core`.
pub fn control_plane(binaries: &Binaries, dir: &Path, core: u32) -> io::Result<Process> {
    Program::new("control-plane", "taskset", dir)
        .flag("-c", core.to_string())
        .arg(binaries.control_plane())
        .arg("--insecure-dev")
        .flag("--data-dir", dir.join("control-plane"))
        .flag("--xds-address", "127.0.0.1:0")
        .flag("--admin-address", "127.0.0.1:0")
        .flag("--http-address", "127.0.0.1:0")
        .start()
}

/// Starts a sidecar by way of the command `around`.
pub fn sidecar(
    binaries: &Binaries,
    dir: &Path,
    around: &[String],
    xds: SocketAddr,
) -> io::Result<Process> {
    let (first, rest) = around.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    rest.iter()
        .fold(Program::new("sidecar", first, dir), |program, word| program.arg(word))
        .arg(sidecar_program(binaries))
        .flag("--service", "caller")
        .flag("--version", "v1")
        .flag("--node-id", "bench")
        .flag("--workers", "1")
        .flag("--control-plane", format!("http://{xds}"))
        .flag("--outbound-address", "127.0.0.1:0")
        .flag("--admin-address", "127.0.0.1:0")
        .flag("--data-dir", dir.join("sidecar"))
        .start()
}

/// The sidecar that is measured, where it is another build than the rest.
pub fn sidecar_program(binaries: &Binaries) -> PathBuf {
    std::env::var_os("SEGUE_BENCH_SIDECAR").map_or_else(|| binaries.sidecar(), PathBuf::from)
}

fn apply(
    binaries: &Binaries,
    setup: Setup,
    upstream: &Upstream,
    dir: &Path,
    admin: &str,
) -> io::Result<()> {
    let (protocol, up) = match setup {
        Setup { grpc: true, .. } => ("grpc", upstream.http2),
        Setup { legs: Legs { upstream_http2: true, .. }, .. } => ("http2", upstream.http2),
        _ => ("http", upstream.http1),
    };
    let mut yaml = written::service_of(protocol, "chat", &[("v1", vec![up]), ("v2", vec![up])]);
    yaml.push_str(&route(&setup.prefixes()));
    let file = dir.join("chat.yaml");
    fs::write(&file, yaml)?;
    let output = Command::new(binaries.cli())
        .args(["--server", &format!("http://{admin}"), "apply", "--wait", "-f"])
        .arg(&file)
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("segue apply: {}", String::from_utf8_lossy(&output.stderr))))
}

/// One route of rules that all split alike.
fn route(prefixes: &[String]) -> String {
    let mut yaml = String::from(
        "apiVersion: segue.dev/v1alpha1
kind: Route
metadata: {name: chat}
spec:
  targetRef: {name: chat}
  splitBy: {header: x-user-id}
  rules:
",
    );
    for prefixes in prefixes.chunks(MATCHES_OF_RULE) {
        let matches: Vec<String> =
            prefixes.iter().map(|it| format!("{{path: {{value: {it}}}}}")).collect();
        let _ = write!(
            yaml,
            "    - matches: [{}]
      backendRefs:
        - {{name: chat, version: v1, weight: 50}}
        - {{name: chat, version: v2, weight: 50}}
",
            matches.join(", ")
        );
    }
    yaml
}
