//! One window of load by `h2load`, which writes the time of every request into a file.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// How the requests of a window come.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub http2: bool,
    pub connections: u32,
    /// Streams of each HTTP/2 connection at one time.
    pub streams: u32,
    pub requests: u32,
}

/// What a window gave.
#[derive(Clone, Debug)]
pub struct Window {
    pub requests_per_second: f64,
    /// Microseconds.
    pub p50: f64,
    /// Microseconds.
    pub p99: f64,
    pub failed: u64,
}

/// Sends the requests from `core` and waits for all answers.
pub fn window(shape: Shape, target: SocketAddr, core: u32, dir: &Path) -> io::Result<Window> {
    let log = dir.join("h2load.log");
    let _absent_at_first = fs::remove_file(&log);
    let begin = Instant::now();
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg("h2load");
    if !shape.http2 {
        command.arg("--h1");
    }
    command
        .args(["-t", "1", "-T", "30", "-N", "30"])
        .args(["-n", &shape.requests.to_string(), "-c", &shape.connections.to_string()])
        .args(["-m", &shape.streams.to_string(), &format!("--connect-to={target}")])
        .args(["--header", "x-user-id: user-1"])
        .arg(format!("--log-file={}", log.display()))
        .arg("http://chat/");
    let output = command.output().map_err(|error| {
        io::Error::new(error.kind(), format!("h2load (package nghttp2-client): {error}"))
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(io::Error::other(format!(
            "h2load: {}{text}",
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    parse_log(&fs::read_to_string(&log)?, shape.requests, seconds)
        .ok_or_else(|| io::Error::other(format!("h2load's log has no answers:\n{text}")))
}

/// Lines of `start in µs`, `status`, `duration in µs`, by tabs.
fn parse_log(log: &str, expected: u32, seconds: f64) -> Option<Window> {
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
    let span = if last > first { (last - first) / 1e6 } else { seconds };
    Some(Window {
        requests_per_second: times.len() as f64 / span,
        p50: at(0.5)?,
        p99: at(0.99)?,
        failed: u64::from(expected).saturating_sub(times.len() as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_gives_rate_quantiles_and_failures() {
        let log: String =
            (0..100).map(|i| format!("{}\t200\t{}\n", 1_000_000 + i * 1000, 100 + i)).collect();
        let window = parse_log(&log, 101, 9.0).unwrap();
        assert_eq!((window.p50, window.p99, window.failed), (150.0, 199.0, 1));
        assert!((window.requests_per_second - 100.0 / 0.099_199).abs() < 1.0);
    }
}
