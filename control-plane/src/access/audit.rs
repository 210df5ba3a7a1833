//! The audit log: who changed what, from where, and who was refused. One JSON object a line.
//!
//! A change never waits for this log. Lines wait in a queue; what does not fit, or cannot be
//! written because the disk is full, is counted and told in the process's own log, and the history
//! of the store still names the author of each commit.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use segue_shared::shutdown::DrainSignal;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tonic::Code;

use super::caller::{Call, Caller};
use super::metrics::AccessMetrics;
use super::pace::Pace;
use super::peer::Peer;

/// Lines that wait to be written.
const QUEUE: usize = 4096;
/// Lines that are written at once.
const BATCH: usize = 256;
/// Size at which a file is put aside.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// Files that are kept, the one that is written included.
const FILES: u32 = 5;
/// Lines of strangers: so many at once, then so many a second. Whoever knocks without end shall not
/// wash away what others did.
const STRANGERS: (f64, f64) = (1.0, 100.0);

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    File(PathBuf),
    /// Standard output, for those who collect it.
    Output,
}

/// Takes lines; clones share it.
#[derive(Clone)]
pub struct AuditLog {
    /// `None`: nothing is kept.
    lines: Option<mpsc::Sender<String>>,
    metrics: AccessMetrics,
    strangers: Arc<Pace>,
    /// Lines of strangers that were left out since the last one.
    left_out: Arc<AtomicU64>,
    complaints: Arc<Pace>,
}

/// Writes them: to be run on a thread of its own, of tokio's.
pub struct Writer {
    lines: mpsc::Receiver<String>,
    sink: Sink,
    metrics: AccessMetrics,
    complaints: Pace,
}

/// One call that is being answered. Dropped before its end, it tells that the caller went away.
pub struct Entry {
    log: AuditLog,
    method: String,
    call: Option<Call>,
    peer: Option<Peer>,
    ended: bool,
}

impl AuditLog {
    /// Opens the log; `None` keeps nothing.
    pub fn open(
        target: Option<Target>,
        metrics: AccessMetrics,
    ) -> io::Result<(Self, Option<Writer>)> {
        let (lines, writer) = match target {
            None => (None, None),
            Some(target) => {
                let (sender, lines) = mpsc::channel(QUEUE);
                let sink = Sink::open(target, MOST_BYTES)?;
                let metrics = metrics.clone();
                (Some(sender), Some(Writer { lines, sink, metrics, complaints: Pace::of_logs() }))
            }
        };
        let strangers = Arc::new(Pace::new(STRANGERS.0, STRANGERS.1));
        let complaints = Arc::new(Pace::new(1.0, 1.0));
        let log = Self { lines, metrics, strangers, left_out: Arc::default(), complaints };
        Ok((log, writer))
    }

    /// A call that is let in.
    pub fn begin(&self, method: &str, call: &Call, peer: Option<&Peer>) -> Entry {
        let (method, call) = (method.to_owned(), Some(call.clone()));
        Entry { log: self.clone(), method, call, peer: peer.cloned(), ended: false }
    }

    /// A call that is not.
    pub fn refused(
        &self,
        method: &str,
        caller: Option<&Arc<Caller>>,
        peer: Option<&Peer>,
        code: Code,
        reason: &str,
    ) {
        if caller.is_none() && !self.strangers.allows() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let method: String = method.chars().take(256).collect();
        let call = caller.map(|caller| Call::new(Arc::clone(caller)));
        self.write(&method, call.as_ref(), peer, &format!("{code:?}"), Some(reason));
    }

    fn write(
        &self,
        method: &str,
        call: Option<&Call>,
        peer: Option<&Peer>,
        result: &str,
        reason: Option<&str>,
    ) {
        let Some(lines) = &self.lines else { return };
        let noted = call.map(Call::noted).unwrap_or_default();
        let caller = call.map(|call| &call.caller);
        let mut line = json!({
            "time": jiff::Timestamp::now().to_string(),
            "caller": caller.map(|caller| caller.name.as_str()),
            "role": caller.map(|caller| caller.role.as_str()),
            "address": peer.map(|peer| peer.address.to_string()),
            "method": method.trim_start_matches('/'),
            "result": result,
        });
        if let Some(reason) = reason {
            line["reason"] = reason.into();
        }
        if let Some(backup) = noted.backup {
            line["backup"] = backup.into();
            line["resourceCount"] = noted.count.into();
        } else if noted.count > 0 {
            let namespaces: BTreeSet<&str> =
                noted.resources.iter().map(|key| key.namespace.as_str()).collect();
            let resources: Vec<String> = noted.resources.iter().map(ToString::to_string).collect();
            line["namespaces"] = json!(namespaces);
            line["resources"] = json!(resources);
            line["resourceCount"] = noted.count.into();
        }
        if noted.dry_run {
            line["dryRun"] = true.into();
        }
        if let Some(revision) = noted.revision {
            line["revision"] = revision.into();
        }
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            line["strangersLeftOut"] = left_out.into();
        }
        let Err(error) = lines.try_send(format!("{line}\n")) else { return };
        self.metrics.audit_lost("queue", 1);
        if self.complaints.allows() {
            tracing::error!(%error, "the audit log cannot keep up, or has ended: lines are lost");
        }
    }
}

impl Entry {
    /// The call was answered.
    pub fn end(mut self, code: Code) {
        self.ended = true;
        self.tell(&format!("{code:?}"), None);
    }

    fn tell(&self, result: &str, reason: Option<&str>) {
        self.log.write(&self.method, self.call.as_ref(), self.peer.as_ref(), result, reason);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.ended {
            let reason = "the caller went away; the history tells whether it was committed";
            self.tell("Cancelled", Some(reason));
        }
    }
}

impl Writer {
    /// Writes until nobody can send any more, or else until `end`, and then what is there. A call
    /// that will not end holds its way to this log for as long as it lasts.
    pub fn run(mut self, end: &DrainSignal) {
        let runtime = Handle::current();
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let more = self.lines.recv_many(&mut batch, BATCH);
            match runtime.block_on(end.run_until_cancelled(more)) {
                Some(0) => return,
                Some(_) => self.write(&mut batch),
                None => break,
            }
        }
        self.lines.close();
        while let Ok(line) = self.lines.try_recv() {
            batch.push(line);
        }
        if !batch.is_empty() {
            self.write(&mut batch);
        }
    }

    fn write(&mut self, batch: &mut Vec<String>) {
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let text = batch.concat();
        batch.clear();
        if let Err(error) = self.sink.write(text.as_bytes()) {
            self.metrics.audit_lost("write", count);
            if self.complaints.allows() {
                tracing::error!(%error, count, "the audit log cannot be written: lines are lost");
            }
        }
    }
}

/// A file that is put aside when it is large, or standard output.
enum Sink {
    Output,
    File { path: PathBuf, file: Option<File>, bytes: u64, most: u64 },
}

impl Sink {
    fn open(target: Target, most: u64) -> io::Result<Self> {
        match target {
            Target::Output => Ok(Self::Output),
            Target::File(path) => {
                let (file, bytes) = append(&path)?;
                Ok(Self::File { path, file: Some(file), bytes, most })
            }
        }
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Output => {
                let mut output = io::stdout().lock();
                output.write_all(text)?;
                output.flush()
            }
            Self::File { path, file, bytes, most } => {
                let more = text.len() as u64;
                if *bytes > 0 && *bytes + more > *most {
                    *file = None;
                    put_aside(path)?;
                }
                let (mut open, size) = match file.take() {
                    Some(open) => (open, *bytes),
                    None => append(path)?,
                };
                // Where this fails, the next line opens it anew and sees how long it really is.
                open.write_all(text)?;
                *file = Some(open);
                *bytes = size + more;
                Ok(())
            }
        }
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

/// `audit.log` becomes `audit.log.1`, that `.2`, and the last goes.
fn put_aside(path: &Path) -> io::Result<()> {
    let numbered = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    for n in (1..FILES - 1).rev() {
        match fs::rename(numbered(n), numbered(n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match fs::rename(path, numbered(1)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tokio::task::spawn_blocking;

    use super::*;

    fn opened(directory: &Path) -> (AuditLog, Writer) {
        let target = Target::File(directory.join("audit.log"));
        let (log, writer) = AuditLog::open(Some(target), AccessMetrics::default()).unwrap();
        (log, writer.unwrap())
    }

    async fn logged(directory: &Path, calls: impl FnOnce(&AuditLog)) -> Vec<serde_json::Value> {
        let (log, writer) = opened(directory);
        calls(&log);
        drop(log);
        spawn_blocking(move || writer.run(&DrainSignal::new())).await.unwrap();
        read(directory)
    }

    fn read(directory: &Path) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(directory.join("audit.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_is_in_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let call = Call::new(Arc::new(Caller::anyone()));
        let lines = logged(directory.path(), |log| {
            log.begin("/segue.admin.v1.ConfigService/Apply", &call, None).end(Code::Ok);
            drop(log.begin("/segue.admin.v1.ConfigService/Apply", &call, None));
        })
        .await;
        assert_eq!(lines[0]["method"], "segue.admin.v1.ConfigService/Apply");
        assert_eq!((&lines[0]["result"], &lines[1]["result"]), (&"Ok".into(), &"Cancelled".into()));
        let mode = fs::metadata(directory.path().join("audit.log")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// Its client may keep it open for ever.
    #[tokio::test]
    async fn a_call_that_does_not_end_keeps_nothing_from_the_log_and_does_not_hold_it_up() {
        let directory = tempfile::tempdir().unwrap();
        let (log, writer) = opened(directory.path());
        let endless = log.clone();
        let end = DrainSignal::new();
        let ended = end.clone();
        let writing = spawn_blocking(move || writer.run(&ended));
        for _ in 0..1_000 {
            log.begin("/x/y", &Call::new(Arc::new(Caller::anyone())), None).end(Code::Ok);
        }
        end.cancel();
        tokio::time::timeout(std::time::Duration::from_secs(20), writing).await.unwrap().unwrap();
        assert_eq!(read(directory.path()).len(), 1_000, "all that was said before the end");
        endless.refused("/x/y", None, None, Code::Unauthenticated, "no_credential");
        assert_eq!(read(directory.path()).len(), 1_000);
    }

    #[tokio::test]
    async fn strangers_never_wash_away_what_others_did() {
        let directory = tempfile::tempdir().unwrap();
        let known = Arc::new(Caller::anyone());
        let lines = logged(directory.path(), |log| {
            for _ in 0..1_000 {
                log.refused("/x/y", None, None, Code::Unauthenticated, "no_credential");
            }
            log.refused("/x/y", Some(&known), None, Code::PermissionDenied, "role");
        })
        .await;
        // A slow machine lets one or two more of them in.
        assert!((101..110).contains(&lines.len()), "{}", lines.len());
        let last = lines.last().unwrap();
        assert_eq!(last["result"], "PermissionDenied");
        assert!(last["strangersLeftOut"].as_u64().unwrap() >= 890, "{last}");
    }

    #[test]
    fn large_files_are_put_aside_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let mut sink = Sink::open(Target::File(path.clone()), 10).unwrap();
        for n in 0..8 {
            sink.write(format!("line {n}\n").as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).ok();
        assert_eq!(read("audit.log").as_deref(), Some("line 7\n"));
        assert_eq!(read("audit.log.4").as_deref(), Some("line 3\n"));
        assert_eq!(read("audit.log.5"), None);
    }

    #[test]
    fn a_log_that_cannot_be_written_is_counted_and_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let mut sink = Sink::open(Target::File(folder.join("audit.log")), 10).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        sink.write(b"goes to the removed file\n").unwrap();
        assert!(sink.write(b"one\n").is_err());
        fs::create_dir(&folder).unwrap();
        sink.write(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(folder.join("audit.log")).unwrap(), "two\n");
    }
}
