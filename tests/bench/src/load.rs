//! One window of load: `wrk` for HTTP/1.1, `h2load` for HTTP/2. Both keep a closed loop: each
//! connection (or stream) sends its next request when it has the answer.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// How the requests of a window come.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub http2: bool,
    pub connections: u32,
    /// Streams of each HTTP/2 connection at one time.
    pub streams: u32,
    pub seconds: u32,
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

/// Sends requests from `core` and waits for all answers.
pub fn window(shape: Shape, target: SocketAddr, core: u32, dir: &Path) -> io::Result<Window> {
    if shape.http2 { h2load(shape, target, core, dir) } else { wrk(shape, target, core) }
}

fn wrk(shape: Shape, target: SocketAddr, core: u32) -> io::Result<Window> {
    let text = run(pinned(core, "wrk").args([
        "--latency",
        "-t1",
        &format!("-c{}", shape.connections),
        &format!("-d{}s", shape.seconds),
        "-H",
        "Host: chat",
        "-H",
        "x-user-id: user-1",
        &format!("http://{target}/"),
    ]))?;
    parse_wrk(&text).ok_or_else(|| io::Error::other(format!("wrk printed no result:\n{text}")))
}

fn h2load(shape: Shape, target: SocketAddr, core: u32, dir: &Path) -> io::Result<Window> {
    let log = dir.join("h2load.log");
    let _absent_at_first = fs::remove_file(&log);
    let requests = shape.seconds * HTTP2_RATE;
    let text = run(pinned(core, "h2load").args([
        "-t1",
        &format!("-n{requests}"),
        &format!("-c{}", shape.connections),
        &format!("-m{}", shape.streams),
        "--header",
        "x-user-id: user-1",
        &format!("--connect-to={target}"),
        &format!("--log-file={}", log.display()),
        "http://chat/",
    ]))?;
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
