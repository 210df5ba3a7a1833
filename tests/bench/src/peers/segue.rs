//! The sidecar as users run it: one worker, configuration from a real control plane.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use segue_tests::binaries::Binaries;
use segue_tests::process::Program;
use segue_tests::{fetch, wait};

use super::{Legs, Proxy, wait_for_port};
use crate::upstream::Upstream;

pub fn start(
    legs: Legs,
    upstream: &Upstream,
    dir: &Path,
    core: u32,
    other_core: u32,
) -> io::Result<Proxy> {
    let binaries = Binaries::find()?;
    let control_plane = Program::new("control-plane", "taskset", dir)
        .flag("-c", other_core.to_string())
        .arg(binaries.control_plane())
        .arg("--insecure-dev")
        .arg("--insecure-dev")
        .flag("--data-dir", dir.join("control-plane"))
        .flag("--xds-address", "127.0.0.1:0")
        .flag("--admin-address", "127.0.0.1:0")
        .flag("--http-address", "127.0.0.1:0")
        .start()?;
    let sidecar = Program::new("sidecar", "taskset", dir)
        .flag("-c", core.to_string())
        .arg(binaries.sidecar())
        .flag("--service", "caller")
        .flag("--version", "v1")
        .flag("--node-id", "bench")
        .flag("--workers", "1")
        .flag("--control-plane", format!("http://{}", control_plane.listening("xds")?))
        .flag("--outbound-address", "127.0.0.1:0")
        .flag("--admin-address", "127.0.0.1:0")
        .flag("--data-dir", dir.join("sidecar"))
        .start()?;
    let address = sidecar.listening("outbound")?;
    apply(&binaries, legs, upstream, dir, &control_plane.listening("admin")?.to_string())?;
    let admin = sidecar.listening("admin")?;
    wait::until("the sidecar is ready", Duration::from_secs(20), || {
        fetch::text(admin, "/readyz").ok()
    })?;
    wait_for_port(address)?;
    let pid = sidecar.id();
    Ok(Proxy {
        name: "segue",
        address,
        pid,
        _keep: vec![Box::new(sidecar), Box::new(control_plane)],
    })
}

fn apply(
    binaries: &Binaries,
    legs: Legs,
    upstream: &Upstream,
    dir: &Path,
    admin: &str,
) -> io::Result<()> {
    let (protocol, up) =
        if legs.upstream_http2 { ("http2", upstream.http2) } else { ("http", upstream.http1) };
    let file = dir.join("chat.yaml");
    fs::write(
        &file,
        format!(
            "apiVersion: segue.dev/v1alpha1
kind: Service
metadata: {{name: chat}}
spec:
  protocol: {protocol}
  versions:
    - {{name: v1, endpoints: ['{up}']}}
    - {{name: v2, endpoints: ['{up}']}}
---
apiVersion: segue.dev/v1alpha1
kind: Route
metadata: {{name: chat}}
spec:
  targetRef: {{kind: Service, name: chat}}
  splitBy: {{header: x-user-id}}
  rules:
    - backendRefs:
        - {{name: chat, version: v1, weight: 50}}
        - {{name: chat, version: v2, weight: 50}}
"
        ),
    )?;
    let output = Command::new(binaries.cli())
        .args(["--server", &format!("http://{admin}"), "apply", "--wait", "-f"])
        .arg(&file)
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("segue apply: {}", String::from_utf8_lossy(&output.stderr))))
}
