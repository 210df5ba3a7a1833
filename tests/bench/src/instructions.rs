//! User instructions of one request, counted by callgrind: a figure that repeats, whatever else the
//! machine does.
//!
//! The sidecar runs under valgrind twice, once with few requests and once with many; the difference
//! is what the others cost, without start and end.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::peers::{self, Legs, Setup};
use crate::upstream::Upstream;

const FEW: u32 = 300;
const MANY: u32 = 2_300;
/// Everything takes fifty times as long.
const PATIENCE: Duration = Duration::from_mins(2);

/// A work, and the most that it may cost.
pub struct Work {
    pub name: &'static str,
    legs: Legs,
    /// Requests at a time on the one connection.
    streams: u32,
    /// The gate: what was measured, and some slack for other compilers.
    most: u32,
}

/// What one work costs.
pub struct Cost {
    pub work: &'static Work,
    pub instructions: f64,
}

const WORKS: &[Work] = &[
    Work { name: "HTTP/1.1 → HTTP/1.1", legs: Legs::HTTP1, streams: 1, most: 31_600 },
    Work {
        name: "HTTP/1.1 → HTTP/2",
        legs: Legs { downstream_http2: false, upstream_http2: true },
        streams: 1,
        most: 38_500,
    },
    Work { name: "HTTP/2 → HTTP/2, one by one", legs: Legs::HTTP2, streams: 1, most: 43_500 },
    Work { name: "HTTP/2 → HTTP/2, 32 streams", legs: Legs::HTTP2, streams: 32, most: 37_500 },
];

impl Cost {
    pub fn most(&self) -> u32 {
        self.work.most
    }

    pub fn is_too_much(&self) -> bool {
        self.instructions > f64::from(self.work.most)
    }
}

/// Counts all works.
pub fn run() -> io::Result<Vec<Cost>> {
    WORKS.iter().map(count).collect()
}

fn count(work: &'static Work) -> io::Result<Cost> {
    let dir = tempfile::Builder::new().prefix("segue-bench-").tempdir()?;
    let upstream = Upstream::start(dir.path(), 0)?;
    let few = total(work, &upstream, dir.path(), FEW)?;
    let many = total(work, &upstream, dir.path(), MANY)?;
    let instructions = (many - few) / f64::from(MANY - FEW);
    eprintln!("  {}: {instructions:.0}", work.name);
    Ok(Cost { work, instructions })
}

/// Instructions of a whole run.
fn total(work: &Work, upstream: &Upstream, dir: &Path, requests: u32) -> io::Result<f64> {
    let dir = dir.join(requests.to_string());
    fs::create_dir(&dir)?;
    let out = dir.join("callgrind.out");
    let around = [
        "valgrind".into(),
        "--tool=callgrind".into(),
        format!("--callgrind-out-file={}", out.display()),
    ];
    let mut mesh =
        peers::segue::Mesh::start(Setup::new(work.legs), upstream, &dir, &around, 0, PATIENCE)?;
    if work.legs.downstream_http2 {
        ask_http2(mesh.address, requests, work.streams)?;
    } else {
        ask_http1(mesh.address, requests)?;
    }
    mesh.sidecar.terminate(PATIENCE)?;
    let told = fs::read_to_string(&out)?;
    let total = told.lines().find_map(|line| line.strip_prefix("totals: "));
    total
        .and_then(|total| total.trim().parse().ok())
        .ok_or_else(|| io::Error::other(format!("{} has no totals", out.display())))
}

/// One request after the other on one connection.
fn ask_http1(address: SocketAddr, requests: u32) -> io::Result<()> {
    let mut caller = TcpStream::connect(address)?;
    caller.set_read_timeout(Some(PATIENCE))?;
    let mut answer = [0; 16 * 1024];
    for _ in 0..requests {
        caller.write_all(b"GET /a/b?c=d HTTP/1.1\r\nhost: chat\r\nuser-agent: bench\r\naccept: */*\r\nx-user-id: 7\r\n\r\n")?;
        let mut length = 0;
        // 1 KiB of one letter ends the answer.
        while !answer[..length].ends_with(&[b'x'; 1024]) {
            let read = caller.read(&mut answer[length..])?;
            if read == 0 {
                return Err(io::Error::other("the sidecar closed the connection"));
            }
            length += read;
        }
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            return Err(io::Error::other("the sidecar did not answer 200"));
        }
    }
    Ok(())
}

fn ask_http2(address: SocketAddr, requests: u32, streams: u32) -> io::Result<()> {
    let output = Command::new("h2load")
        .args(["-c", "1", "-m", &streams.to_string(), "-n", &requests.to_string()])
        .args(["-H", ":authority: chat", "-H", "x-user-id: 7"])
        .arg(format!("http://{address}/a/b?c=d"))
        .stderr(Stdio::inherit())
        .output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    if told.contains(&format!("{requests} succeeded, 0 failed")) {
        return Ok(());
    }
    Err(io::Error::other(format!("h2load: {told}")))
}
