//! The two processes: a control plane, and the herd that it serves.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use segue_tests::binaries::Binaries;
use segue_tests::parent_death;
use segue_tests::process::{Process, Program};
use serde_json::Value;

/// A control plane that comes back on the same ports and data.
pub struct ControlPlane {
    program: Program,
    process: Process,
    pub xds: SocketAddr,
    pub admin: SocketAddr,
}

impl ControlPlane {
    pub fn start(dir: &Path) -> io::Result<Self> {
        let data = dir.join("data");
        let program = Program::new("control-plane", Binaries::find()?.control_plane(), dir)
            .arg("--insecure-dev")
            .flag("--data-dir", data)
            .flag("--http-address", "127.0.0.1:0");
        let on = |xds: &str, admin: &str| {
            program.clone().flag("--xds-address", xds).flag("--admin-address", admin)
        };
        let process = on("127.0.0.1:0", "127.0.0.1:0").start()?;
        let (xds, admin) = (process.listening("xds")?, process.listening("admin")?);
        let program = on(&xds.to_string(), &admin.to_string());
        Ok(Self { program, process, xds, admin })
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it as a crash would and starts it again.
    pub fn crash(&mut self) -> io::Result<()> {
        self.process.kill9()?;
        self.process = self.program.start()?;
        self.process.listening("admin").map(drop)
    }
}

/// The herd's process.
pub struct HerdProcess {
    child: Child,
    orders: ChildStdin,
    told: BufReader<ChildStdout>,
}

impl HerdProcess {
    /// Starts it; the first thing that it tells is that all streams have the revision.
    pub fn start(target: SocketAddr, streams: usize, revision: u64) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("herd")
            .args(["--target", &target.to_string()])
            .args(["--streams", &streams.to_string()])
            .args(["--revision", &revision.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = parent_death::spawn(command)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (orders, told) = pipes.ok_or_else(|| io::Error::other("the herd has no pipes"))?;
        Ok(Self { child, orders, told: BufReader::new(told) })
    }

    /// Tells it to wait for a revision that is about to be made, and returns when it does.
    pub fn expect(&mut self, revision: u64) -> io::Result<()> {
        writeln!(self.orders, "expect {revision}")?;
        self.hear("expecting").map(drop)
    }

    /// The tally that comes with this event.
    pub fn hear(&mut self, event: &str) -> io::Result<Value> {
        let mut line = String::new();
        self.told.read_line(&mut line)?;
        let said: Value = serde_json::from_str(&line)
            .map_err(|error| io::Error::other(format!("the herd said {line:?}: {error}")))?;
        if said["event"] == event {
            return Ok(said["tally"].clone());
        }
        Err(io::Error::other(format!("the herd said {line:?} where {event:?} was due")))
    }
}

impl Drop for HerdProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
