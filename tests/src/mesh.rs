//! A whole mesh on this machine: control plane, sidecars and applications as real processes.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::admin::Admin;
use crate::binaries::Binaries;
use crate::process::{Process, Program};
use crate::{etcd, fetch, wait};

/// Time for a process to end when asked.
const END_LIMIT: Duration = Duration::from_secs(20);
const READY_LIMIT: Duration = Duration::from_secs(20);
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Processes that belong together, with a directory that goes when they go.
pub struct Mesh {
    binaries: Binaries,
    // Declared before `dir`: processes end before their directory goes.
    control_plane: ControlPlane,
    /// Others that serve the same configuration.
    replicas: Vec<ControlPlane>,
    _etcd: Option<Process>,
    dir: TempDir,
}

impl Mesh {
    /// Starts a control plane with an empty store that asks nobody who they are.
    pub fn start() -> io::Result<Self> {
        Self::start_with(Door::Open)
    }

    /// Starts one as users do, with the tokens of its first start; sidecars get the join token, the
    /// command line that of the operator.
    pub fn start_with_tokens() -> io::Result<Self> {
        Self::start_with(Door::Tokens)
    }

    /// Starts one whose xDS port speaks TLS by the mesh's own authority, so that a sidecar's
    /// certificate says who it is. Sidecars know the root of the first start alone.
    pub fn start_with_identities() -> io::Result<Self> {
        let mesh = Self::start_with(Door::Identities)?;
        fs::copy(mesh.dir().join("control-plane/ca/root.pem"), mesh.first_root())?;
        Ok(mesh)
    }

    /// The root of the first start, where the xDS port speaks TLS.
    fn first_root(&self) -> PathBuf {
        self.dir().join("first-root.pem")
    }

    fn start_with(door: Door) -> io::Result<Self> {
        let binaries = Binaries::find()?;
        let dir = tempfile::Builder::new().prefix("segue-").tempdir()?;
        let control_plane = ControlPlane::start(&binaries, dir.path(), door)?;
        Ok(Self { binaries, control_plane, replicas: Vec::new(), _etcd: None, dir })
    }

    /// Starts several control planes on one etcd, of which `program` is the path. Sidecars know
    /// all of them; what else this mesh does it asks of the first.
    pub fn start_on_etcd(program: &Path, control_planes: usize) -> io::Result<Self> {
        let binaries = Binaries::find()?;
        let dir = tempfile::Builder::new().prefix("segue-").tempdir()?;
        let (etcd, url) = etcd::start(program, dir.path())?;
        let start = |number: usize| {
            let name = format!("control-plane-{number}");
            let program = Program::new(&name, binaries.control_plane(), dir.path())
                .arg("--insecure-dev")
                .flag("--data-dir", dir.path().join(&name))
                .flag("--etcd", &url);
            ControlPlane::start_program(&program)
        };
        let control_plane = start(1)?;
        let replicas = (2..=control_planes).map(start).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { binaries, control_plane, replicas, _etcd: Some(etcd), dir })
    }

    /// All control planes, the first first.
    pub fn control_planes(&mut self) -> Vec<&mut ControlPlane> {
        std::iter::once(&mut self.control_plane).chain(&mut self.replicas).collect()
    }

    /// The file of a token that the control plane made, `operator` or `join`.
    pub fn token(&self, name: &str) -> Option<PathBuf> {
        let file = self.dir().join("control-plane").join(format!("{name}.token"));
        file.exists().then_some(file)
    }

    /// The directory of data and logs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn control_plane(&mut self) -> &mut ControlPlane {
        &mut self.control_plane
    }

    /// A new connection to the admin API.
    pub fn admin(&self) -> io::Result<Admin> {
        Admin::connect(self.control_plane.admin_address)
    }

    /// Starts one instance of the test application.
    pub fn echo(&self, version: &str) -> io::Result<Application> {
        self.echo_on(version, ANY_PORT)
    }

    /// Starts one where another one was.
    pub fn echo_on(&self, version: &str, address: SocketAddr) -> io::Result<Application> {
        let process = Program::new(format!("echo-{version}"), self.binaries.echo(), self.dir())
            .flag("--address", address.to_string())
            .flag("--version", version)
            .start()?;
        Ok(Application { address: process.listening("http")?, process })
    }

    /// Starts a sidecar and waits until it is ready; it stands next to `chat` `v1` unless the flags
    /// say otherwise.
    pub fn sidecar(&self, node_id: &str) -> io::Result<Sidecar> {
        let sidecar = self.sidecar_with(node_id, &[])?;
        sidecar.wait_ready()?;
        Ok(sidecar)
    }

    /// Starts a sidecar with more flags and does not wait until it is ready.
    pub fn sidecar_with(&self, node_id: &str, flags: &[(&str, &str)]) -> io::Result<Sidecar> {
        let data_dir = self.dir().join(node_id);
        fs::create_dir_all(&data_dir)?;
        let control_planes = std::iter::once(&self.control_plane).chain(&self.replicas);
        let root = Some(self.first_root()).filter(|root| root.exists());
        let scheme = if root.is_some() { "https" } else { "http" };
        let xds: Vec<String> =
            control_planes.map(|one| format!("{scheme}://{}", one.xds_address)).collect();
        let mut program = Program::new(node_id, self.binaries.sidecar(), self.dir())
            .flag("--version", "v1")
            .flag("--node-id", node_id)
            .flag("--control-plane", xds.join(","))
            .flag("--data-dir", &data_dir);
        if let Some(root) = root {
            program = program.flag("--control-plane-ca", root);
        }
        for (flag, otherwise) in [("--service", "caller"), ("--app-address", "127.0.0.1:9")] {
            if !flags.iter().any(|(given, _)| *given == flag) {
                program = program.flag(flag, otherwise);
            }
        }
        if let Some(token) = self.token("join")
            && !flags.iter().any(|(flag, _)| *flag == "--join-token-file")
        {
            program = program.flag("--join-token-file", token);
        }
        for (flag, value) in flags {
            program = program.flag(flag, value);
        }
        Sidecar::start(program)
    }

    /// Runs the command line against this control plane.
    pub fn segue(&self, args: &[&str]) -> io::Result<Output> {
        let mut command = Command::new(self.binaries.cli());
        if let Some(token) = self.token("operator") {
            command.env("SEGUE_TOKEN_FILE", token);
        }
        command
            .arg("--server")
            .arg(format!("http://{}", self.control_plane.admin_address))
            .args(args)
            .env("NO_COLOR", "1")
            .output()
    }

    /// Runs the command line and gives what it printed; a failing exit code is an error.
    pub fn segue_ok(&self, args: &[&str]) -> io::Result<String> {
        let output = self.segue(args)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(io::Error::other(format!(
            "segue {} ended with {}:\n{}{}",
            args.join(" "),
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        )))
    }

    /// Writes a file into the mesh's directory.
    pub fn file(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let path = self.dir().join(name);
        fs::write(&path, content)?;
        Ok(path)
    }

    /// Applies a text by the command line and waits until all sidecars run on it.
    pub fn apply(&self, yaml: &str) -> io::Result<String> {
        let file = self.file("apply.yaml", yaml)?;
        self.segue_ok(&["apply", "-f", &file.to_string_lossy(), "--wait"])
    }

    /// What `status -o json` prints.
    pub fn status(&self) -> io::Result<Value> {
        serde_json::from_str(&self.segue_ok(&["status", "-o", "json"])?).map_err(io::Error::other)
    }
}

/// Who is let in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    Tokens,
    Identities,
}

/// A running control plane.
pub struct ControlPlane {
    program: Program,
    process: Process,
    pub xds_address: SocketAddr,
    pub admin_address: SocketAddr,
    pub http_address: SocketAddr,
}

impl ControlPlane {
    fn start(binaries: &Binaries, dir: &Path, door: Door) -> io::Result<Self> {
        let data_dir = dir.join("control-plane");
        fs::create_dir_all(&data_dir)?;
        let mut program = Program::new("control-plane", binaries.control_plane(), dir)
            .flag("--data-dir", &data_dir);
        program = match door {
            Door::Open => program.arg("--insecure-dev"),
            Door::Tokens => program,
            Door::Identities => program.flag("--xds-tls-names", "127.0.0.1"),
        };
        Self::start_program(&program)
    }

    fn start_program(program: &Program) -> io::Result<Self> {
        let on = |xds: SocketAddr, admin: SocketAddr, http: SocketAddr| {
            program
                .clone()
                .flag("--xds-address", xds.to_string())
                .flag("--admin-address", admin.to_string())
                .flag("--http-address", http.to_string())
        };
        let process = on(ANY_PORT, ANY_PORT, ANY_PORT).start()?;
        let xds_address = process.listening("xds")?;
        let admin_address = process.listening("admin")?;
        let http_address = process.listening("http")?;
        // A restart comes back where it was.
        let program = on(xds_address, admin_address, http_address);
        Ok(Self { program, process, xds_address, admin_address, http_address })
    }

    /// Ends it as a crash would.
    pub fn kill9(&mut self) -> io::Result<()> {
        self.process.kill9()
    }

    /// Starts it again on the same ports and data.
    pub fn restart(&mut self) -> io::Result<()> {
        self.process.kill9()?;
        self.process = self.program.start()?;
        self.process.listening("admin").map(drop)
    }

    /// Id of the process that runs now.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Its metrics as text.
    pub fn metrics(&self) -> io::Result<String> {
        fetch::text(self.http_address, "/metrics")
    }
}

/// A running sidecar.
pub struct Sidecar {
    program: Program,
    process: Process,
    pub outbound: SocketAddr,
    pub inbound: SocketAddr,
    pub admin: SocketAddr,
}

impl Sidecar {
    fn start(program: Program) -> io::Result<Self> {
        let on = |outbound: SocketAddr, inbound: SocketAddr, admin: SocketAddr| {
            program
                .clone()
                .flag("--outbound-address", outbound.to_string())
                .flag("--inbound-address", inbound.to_string())
                .flag("--admin-address", admin.to_string())
        };
        let process = on(ANY_PORT, ANY_PORT, ANY_PORT).start()?;
        let admin = process.listening("admin")?;
        let inbound = process.listening("inbound")?;
        let outbound = process.listening("outbound")?;
        let program = on(outbound, inbound, admin);
        Ok(Self { program, process, outbound, inbound, admin })
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The file that its logs go to.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// Waits until `/readyz` says yes.
    pub fn wait_ready(&self) -> io::Result<()> {
        let admin = self.admin;
        wait::until("the sidecar is ready", READY_LIMIT, || fetch::text(admin, "/readyz").ok())
            .map(drop)
            .map_err(|error| io::Error::other(format!("{error}\n{}", self.process.log_tail())))
    }

    /// Ends it as a crash would and starts it again on the same ports and data.
    pub fn crash_and_restart(&mut self) -> io::Result<()> {
        self.process.kill9()?;
        self.process = self.program.start()?;
        self.process.listening("admin").map(drop)
    }

    /// Starts another process that takes its place, and gives the old one, which drains.
    pub fn take_over(&mut self, flags: &[(&str, &str)]) -> io::Result<Process> {
        let successor = flags
            .iter()
            .fold(self.program.clone().arg("--take-over"), |it, (flag, value)| it.flag(flag, value))
            .start()?;
        successor.listening("admin")?;
        Ok(std::mem::replace(&mut self.process, successor))
    }

    /// Asks it to end and waits until it has.
    pub fn terminate(&mut self) -> io::Result<std::process::ExitStatus> {
        self.process.terminate(END_LIMIT)
    }

    /// Its metrics as text.
    pub fn metrics(&self) -> io::Result<String> {
        fetch::text(self.admin, "/metrics")
    }

    /// What it has counted: of one series with its labels, or of all that have a name.
    pub fn counted(&self, series: &str) -> io::Result<u64> {
        counted(&self.metrics()?, series)
    }
}

fn counted(metrics: &str, series: &str) -> io::Result<u64> {
    let of = |line: &str| {
        let rest = line.strip_prefix(series)?;
        rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next().unwrap_or_default().to_owned())
    };
    let number = |value: String| {
        value.parse::<u64>().map_err(|error| io::Error::other(format!("{series} {value}: {error}")))
    };
    metrics.lines().filter_map(of).map(number).sum()
}

/// A running test application.
pub struct Application {
    pub address: SocketAddr,
    pub process: Process,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_series_of_a_name_are_counted_and_no_other() {
        let metrics =
            "# TYPE a_total counter\na_total{end=\"x y\"} 2\na_total{end=\"b\"} 3\na_totals 7\n";
        assert_eq!(counted(metrics, "a_total").unwrap(), 5);
        assert_eq!(counted(metrics, "a_total{end=\"b\"}").unwrap(), 3);
        assert_eq!(counted(metrics, "b_total").unwrap(), 0);
        assert!(counted("a_total many", "a_total").is_err());
    }
}
