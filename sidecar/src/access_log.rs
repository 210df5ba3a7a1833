//! The access log: a JSON object a line, written by a thread of its own. No request waits for it.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::json;
use thiserror::Error;
use tracing::warn;

/// Lines that wait to be written; further ones are lost, and counted.
const MOST_WAITING: usize = 2_048;
/// Lines a second of which only the first ones are written where not all requests are wanted: when
/// everything fails, a line for each failure helps nobody.
const MOST_ERRORS_A_SECOND: u64 = 100;
/// What a caller says is cut to this.
const MOST_FIELD_BYTES: usize = 1_024;

/// Which requests are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logged {
    /// Those that were refused or answered with 5xx.
    Errors,
    All,
}

/// Where lines go; clones are the same log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    logged: Logged,
    lines: SyncSender<Entry>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    lost: AtomicU64,
    /// The second since the epoch, and above it how many errors it has had.
    errors: AtomicU64,
}

/// One request.
#[derive(Debug)]
pub struct Entry {
    pub time: SystemTime,
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    pub peer: String,
    /// Its SPIFFE ID, where it has shown one.
    pub identity: Option<String>,
    pub method: String,
    pub authority: String,
    /// In its one spelling, without the query.
    pub path: String,
    pub protocol: String,
    pub status: u16,
    /// Envoy's word for what was wrong; empty where an upstream answered.
    pub flags: &'static str,
    /// The same for people; empty likewise.
    pub reason: &'static str,
    /// The version that was chosen, if one was.
    pub cluster: Option<Arc<str>>,
    /// To the head of the answer.
    pub duration: Duration,
}

/// A file that cannot be written to.
#[derive(Debug, Error)]
#[error("the access log {path} cannot be opened: {reason}")]
pub struct AccessLogError {
    path: String,
    reason: io::Error,
}

impl AccessLog {
    /// Begins to write to a file, behind what is there; `-` is the standard output.
    pub fn begin(logged: Logged, file: &Path) -> Result<Self, AccessLogError> {
        let fail = |reason| AccessLogError { path: file.display().to_string(), reason };
        let out: Box<dyn Write + Send> = if file == Path::new("-") {
            Box::new(io::stdout())
        } else {
            Box::new(OpenOptions::new().create(true).append(true).open(file).map_err(fail)?)
        };
        Self::onto(logged, out).map_err(fail)
    }

    fn onto(logged: Logged, out: Box<dyn Write + Send>) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(MOST_WAITING);
        thread::Builder::new().name("segue-access-log".into()).spawn(move || {
            write_all(&waiting, BufWriter::new(out));
        })?;
        Ok(Self { logged, lines, counts: Arc::default() })
    }

    /// Whether a request with such an end is wanted.
    pub fn wants(&self, status: u16, is_refused: bool) -> bool {
        match self.logged {
            Logged::All => true,
            Logged::Errors => (is_refused || status >= 500) && self.has_room_for_error(),
        }
    }

    /// Hands a line on. Loses it where too many wait.
    pub fn push(&self, entry: Entry) {
        match self.lines.try_send(entry) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counts.lost.fetch_add(1, Relaxed);
            }
        }
    }

    /// Lines that were wanted and are nowhere.
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Relaxed)
    }

    /// Whether this second has had few enough errors. Two that meet here at the turn of a second may
    /// both count as its first one.
    fn has_room_for_error(&self) -> bool {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs() & u64::from(u32::MAX);
        let before = self.counts.errors.load(Relaxed);
        let count = if before & u64::from(u32::MAX) == second { (before >> 32) + 1 } else { 1 };
        self.counts.errors.store(count << 32 | second, Relaxed);
        let has_room = count <= MOST_ERRORS_A_SECOND;
        if !has_room {
            self.counts.lost.fetch_add(1, Relaxed);
        }
        has_room
    }
}

fn write_all(waiting: &Receiver<Entry>, mut out: BufWriter<Box<dyn Write + Send>>) {
    let mut failing = false;
    while let Ok(first) = waiting.recv() {
        let mut written = write(&mut out, &first);
        while let Ok(next) = waiting.try_recv() {
            written = written.and_then(|()| write(&mut out, &next));
        }
        let written = written.and_then(|()| out.flush());
        if let Err(error) = &written
            && !failing
        {
            warn!(%error, "the access log cannot be written");
        }
        failing = written.is_err();
    }
}

/// `serde_json` escapes what could end a line or a string, or move a terminal's cursor.
fn write(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    let time = Timestamp::try_from(entry.time).map(|time| time.to_string()).unwrap_or_default();
    let line = json!({
        "time": time,
        "direction": entry.direction,
        "peer": entry.peer,
        "identity": entry.identity,
        "method": cut(&entry.method),
        "authority": cut(&entry.authority),
        "path": cut(&entry.path),
        "protocol": entry.protocol,
        "status": entry.status,
        "flags": entry.flags,
        "reason": entry.reason,
        "cluster": entry.cluster.as_deref(),
        "durationMs": (entry.duration.as_secs_f64() * 1e6).round() / 1e3,
    });
    writeln!(out, "{line}")
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MOST_FIELD_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn entry(path: &str) -> Entry {
        Entry {
            time: SystemTime::UNIX_EPOCH,
            direction: "outbound",
            peer: "127.0.0.1".into(),
            identity: None,
            method: "GET".into(),
            authority: "chat".into(),
            path: path.into(),
            protocol: "HTTP/1.1".into(),
            status: 503,
            flags: "UF",
            reason: "connect_failed",
            cluster: Some("default/chat/v1".into()),
            duration: Duration::from_micros(1234),
        }
    }

    #[test]
    fn a_line_is_one_object_whatever_the_caller_says() {
        let mut out = Vec::new();
        write(&mut out, &entry("/a\"\n{\u{1b}[31m\u{7f}")).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        assert!(!text.contains('\u{1b}'), "{text}");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&read["status"], &read["durationMs"]), (&json!(503), &json!(1.234)));
        assert_eq!((&read["flags"], &read["time"]), (&json!("UF"), &json!("1970-01-01T00:00:00Z")));
        let mut long = Vec::new();
        write(&mut long, &entry(&"ü".repeat(5_000))).unwrap();
        assert!(long.len() < 2_000);
    }

    #[test]
    fn errors_beyond_the_rate_and_the_queue_are_counted_not_waited_for() {
        let out = Shared::default();
        let log = AccessLog::onto(Logged::Errors, Box::new(out.clone())).unwrap();
        assert!(!log.wants(200, false) && !log.wants(404, false));
        let wanted = (0..1_000).filter(|_| log.wants(503, false)).count();
        // At the turn of a second it begins anew.
        assert!((100..=200).contains(&wanted) && log.lost() == 1_000 - wanted as u64);
        log.push(entry("/"));
        let lines = Arc::clone(&out.0);
        drop(log);
        while lines.lock().unwrap().is_empty() {
            thread::yield_now();
        }
    }
}
