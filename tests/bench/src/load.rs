//! One window of load: `wrk` for HTTP/1.1, `h2load` for HTTP/2. Both keep a closed loop, in which
//! each connection (or stream) sends its next request when it has the answer, unless a pace is set.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::upstream::{GRPC_BYTES, GRPC_PATH};

/// What a caller asks for, always of the host `chat` and as one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// GET of a path.
    Get(String),
    /// GET of a path over a connection that is closed after it.
    Once(String),
    /// POST of so many bytes.
    Upload(usize),
    /// A unary call of gRPC.
    Grpc,
}

/// How the requests of a window come.
#[derive(Clone, Debug)]
pub struct Shape {
    http2: bool,
    connections: u32,
    /// Streams of each HTTP/2 connection at one time.
    streams: u32,
    seconds: u32,
    ask: Ask,
}

impl Shape {
    /// One request at a time on each HTTP/1.1 connection.
    pub fn http1(connections: u32, seconds: u32) -> Self {
        Self { http2: false, connections, streams: 1, seconds, ask: Ask::Get("/".into()) }
    }

    /// `streams` requests at a time on each HTTP/2 connection.
    pub fn http2(connections: u32, streams: u32, seconds: u32) -> Self {
        Self { http2: true, streams, ..Self::http1(connections, seconds) }
    }

    /// The same load of other requests.
    pub fn asking(self, ask: Ask) -> Self {
        Self { ask, ..self }
    }

    /// The same load for another time, where one is given.
    pub fn lasting(&self, seconds: Option<u32>) -> Self {
        Self { seconds: seconds.unwrap_or(self.seconds), ..self.clone() }
    }
}

/// What a window gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub requests: f64,
    pub requests_per_second: f64,
    /// Microseconds.
    pub p50: f64,
    /// Microseconds.
    pub p99: f64,
    pub failed: u64,
}

/// Requests a second that an HTTP/2 window is sized for: it is given by number, not by time,
/// because only then does h2load write a time for each request.
const HTTP2_RATE: u32 = 30_000;

/// Sends requests from `core` as fast as answers come, and waits for all of them.
pub fn window(shape: &Shape, target: SocketAddr, core: u32, dir: &Path) -> io::Result<Window> {
    if shape.http2 { h2load(shape, target, core, dir) } else { wrk(shape, target, core, dir) }
}

/// Sends so many requests a second over HTTP/1.1, whether or not earlier ones have their answers.
pub fn paced(
    target: SocketAddr,
    rate: u32,
    seconds: u32,
    core: u32,
    dir: &Path,
) -> io::Result<Window> {
    const CONNECTIONS: u32 = 20;
    let mut command = pinned(core, "h2load");
    command.arg("--h1").arg(format!("--rps={}", rate / CONNECTIONS));
    h2load_log(command, rate * seconds, CONNECTIONS, target, "/", dir)
}

fn wrk(shape: &Shape, target: SocketAddr, core: u32, dir: &Path) -> io::Result<Window> {
    let mut command = pinned(core, "wrk");
    command.args(["--latency", "-t1"]);
    command.args([format!("-c{}", shape.connections), format!("-d{}s", shape.seconds)]);
    command.args(["--timeout", "10s", "-H", "Host: chat", "-H", "x-user-id: user-1"]);
    let path = match &shape.ask {
        Ask::Get(path) => path,
        Ask::Once(path) => {
            command.args(["-H", "Connection: close"]);
            path
        }
        Ask::Upload(bytes) => {
            let script = dir.join("upload.lua");
            fs::write(
                &script,
                format!("wrk.method = 'POST'\nwrk.body = string.rep('x', {bytes})\n"),
            )?;
            command.arg("-s").arg(script);
            "/upload"
        }
        Ask::Grpc => return Err(io::Error::other("gRPC needs HTTP/2")),
    };
    let text = run(command.arg(format!("http://{target}{path}")))?;
    parse_wrk(&text).ok_or_else(|| io::Error::other(format!("wrk printed no result:\n{text}")))
}

fn h2load(shape: &Shape, target: SocketAddr, core: u32, dir: &Path) -> io::Result<Window> {
    let mut command = pinned(core, "h2load");
    command.arg(format!("-m{}", shape.streams));
    let path = match &shape.ask {
        Ask::Get(path) => path,
        Ask::Grpc => {
            let message = dir.join("message");
            // No proxy reads the message, so any bytes do.
            fs::write(&message, [b'x'; GRPC_BYTES])?;
            command.arg("-d").arg(message);
            command.args(["--header", "content-type: application/grpc"]);
            command.args(["--header", "te: trailers"]);
            GRPC_PATH
        }
        Ask::Once(_) | Ask::Upload(_) => {
            return Err(io::Error::other("this load is made for HTTP/1.1"));
        }
    };
    let requests = shape.seconds * HTTP2_RATE;
    h2load_log(command, requests, shape.connections, target, path, dir)
}

fn h2load_log(
    mut command: Command,
    requests: u32,
    connections: u32,
    target: SocketAddr,
    path: &str,
    dir: &Path,
) -> io::Result<Window> {
    let log = dir.join("h2load.log");
    let _absent_at_first = fs::remove_file(&log);
    command.args(["-t1", &format!("-n{requests}"), &format!("-c{connections}")]);
    command.args(["--header", "x-user-id: user-1", &format!("--connect-to={target}")]);
    command.arg(format!("--log-file={}", log.display())).arg(format!("http://chat{path}"));
    let text = run(&mut command)?;
    parse_h2load_log(&fs::read_to_string(&log)?, requests)
        .ok_or_else(|| io::Error::other(format!("h2load's log has no answers:\n{text}")))
}

fn pinned(core: u32, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string(), program]);
    command
}

fn run(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?} failed: {errors}{text}")))
}

fn parse_wrk(text: &str) -> Option<Window> {
    let line = |prefix: &str| text.lines().find_map(|line| line.trim().strip_prefix(prefix));
    let summary = text.lines().find(|line| line.contains(" requests in "))?;
    let requests: f64 = summary.split_whitespace().next()?.parse().ok()?;
    let numbers = |line: &str| -> u64 {
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u64>().ok()).sum()
    };
    let failed = line("Non-2xx or 3xx responses:").map_or(0, numbers)
        + line("Socket errors:").map_or(0, numbers);
    Some(Window {
        requests,
        requests_per_second: line("Requests/sec:")?.trim().parse().ok()?,
        p50: microseconds(line("50%")?)?,
        p99: microseconds(line("99%")?)?,
        failed,
    })
}

/// `1.23ms` and the like.
fn microseconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = text[..unit].parse().ok()?;
    Some(match &text[unit..] {
        "us" => number,
        "ms" => number * 1e3,
        "s" => number * 1e6,
        _ => return None,
    })
}

/// Lines of `start in µs`, `status`, `duration in µs`, by tabs.
fn parse_h2load_log(log: &str, expected: u32) -> Option<Window> {
    let mut times: Vec<f64> = Vec::with_capacity(expected as usize);
    let (mut first, mut last) = (f64::MAX, 0.0_f64);
    for line in log.lines() {
        let mut fields = line.split('\t');
        let start: f64 = fields.next()?.parse().ok()?;
        let status: i32 = fields.next()?.parse().ok()?;
        let time: f64 = fields.next()?.parse().ok()?;
        if status == 200 {
            times.push(time);
            first = first.min(start);
            last = last.max(start + time);
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied();
    Some(Window {
        requests: f64::from(expected),
        requests_per_second: times.len() as f64 * 1e6 / (last - first),
        p50: at(0.5)?,
        p99: at(0.99)?,
        failed: u64::from(expected).saturating_sub(times.len() as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h2loads_log_gives_rate_quantiles_and_failures() {
        let log: String =
            (0..100).map(|i| format!("{}\t200\t{}\n", 1_000_000 + i * 1000, 100 + i)).collect();
        let window = parse_h2load_log(&log, 101).unwrap();
        assert_eq!((window.p50, window.p99, window.failed), (150.0, 199.0, 1));
        assert!((window.requests_per_second - 100.0 / 0.099_199).abs() < 1.0);
    }

    #[test]
    fn wrks_output_gives_rate_quantiles_and_failures() {
        let text = "  Latency Distribution\n     50%  850.00us\n     75%    1.00ms\n     99%    \
                    2.50ms\n  120000 requests in 3.00s, 140MB read\n  Socket errors: connect 0, \
                    read 1, write 0, timeout 2\n  Non-2xx or 3xx responses: 4\nRequests/sec:  \
                    40000.00\n";
        let window = parse_wrk(text).unwrap();
        let expected = Window {
            requests: 120_000.0,
            requests_per_second: 40_000.0,
            p50: 850.0,
            p99: 2500.0,
            failed: 7,
        };
        assert_eq!(window, expected);
    }
}
