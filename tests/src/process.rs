//! Child processes that say where they listen.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::{parent_death, wait};

/// How long a process may take to say where it listens.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Lines of standard output that are kept for messages.
const KEPT_LINES: usize = 50;

/// What to run.
#[derive(Clone, Debug)]
pub struct Program {
    name: String,
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    log: PathBuf,
}

impl Program {
    /// `name` is for messages; standard error goes to `NAME.log` in `log_dir`, after what is there.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>, log_dir: &Path) -> Self {
        let name = name.into();
        let log = log_dir.join(format!("{name}.log"));
        Self { name, path: path.into(), args: Vec::new(), env: Vec::new(), log }
    }

    /// A flag and its value.
    #[must_use]
    pub fn flag(self, flag: &str, value: impl AsRef<OsStr>) -> Self {
        self.arg(flag).arg(value)
    }

    /// One argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// A variable of the environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.into(), value.as_ref().to_owned()));
        self
    }

    /// Starts it.
    pub fn start(&self) -> io::Result<Process> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.path);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.stderr(log));
        let mut child = parent_death::spawn(command).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start {}: {error}", self.path.display()))
        })?;
        let output = Arc::new(Output::default());
        if let Some(stdout) = child.stdout.take() {
            let output = Arc::clone(&output);
            thread::spawn(move || output.read(stdout));
        }
        Ok(Process { name: self.name.clone(), log: self.log.clone(), child, output })
    }

    fn stderr(&self, log: File) -> Stdio {
        // For looking over the shoulder of a failing test.
        match std::env::var_os("SEGUE_TEST_LOG") {
            Some(_) => Stdio::inherit(),
            None => log.into(),
        }
    }
}

/// A running child. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    output: Arc<Output>,
}

impl Process {
    /// Id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The address that the process printed as `listening name=NAME address=A`.
    pub fn listening(&self, name: &str) -> io::Result<SocketAddr> {
        let deadline = Instant::now() + START_LIMIT;
        let mut state = self.output.lock();
        loop {
            if let Some(address) = state.listening.get(name) {
                return Ok(*address);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                let why = if state.ended { "ended" } else { "was silent for 30 s" };
                let printed: Vec<&str> = state.lines.iter().map(String::as_str).collect();
                return Err(io::Error::other(format!(
                    "{} {why} before it listened on {name:?}; it printed {printed:?}; the end of its log:\n{}",
                    self.name,
                    self.log_tail()
                )));
            }
            state = self
                .output
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Ends it at once, as a crash would, and reaps it.
    pub fn kill9(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Asks it to end (SIGTERM) and returns without waiting.
    pub fn ask_to_end(&self) -> io::Result<()> {
        parent_death::signal(&self.child, libc::SIGTERM)
    }

    /// Asks it to end and waits.
    pub fn terminate(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        self.ask_to_end()?;
        self.ended_within(limit)
    }

    /// Waits for its end.
    pub fn ended_within(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        let child = &mut self.child;
        wait::until(&format!("{} ends", self.name), limit, || child.try_wait().transpose())?
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// File of its standard error.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its standard error.
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the end of the log of {}:\n{}", self.name, self.log_tail());
        }
    }
}

#[derive(Debug, Default)]
struct Output {
    state: Mutex<OutputState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct OutputState {
    listening: BTreeMap<String, SocketAddr>,
    lines: VecDeque<String>,
    ended: bool,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, OutputState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, stdout: ChildStdout) {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let mut state = self.lock();
            if let Some((name, address)) = parse_listening(&line) {
                state.listening.insert(name, address);
            }
            state.lines.push_back(line);
            if state.lines.len() > KEPT_LINES {
                state.lines.pop_front();
            }
            self.changed.notify_all();
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }
}

fn parse_listening(line: &str) -> Option<(String, SocketAddr)> {
    let fields = line.strip_prefix("listening ")?;
    let field = |key: &str| {
        fields.split_whitespace().find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
    };
    Some((field("name")?.to_owned(), field("address")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (tempfile::TempDir, Process) {
        let dir = tempfile::tempdir().unwrap();
        let process =
            Program::new("shell", "/bin/sh", dir.path()).flag("-c", script).start().unwrap();
        (dir, process)
    }

    #[test]
    fn the_address_is_read_from_the_output() {
        let (_dir, process) = shell("echo listening name=xds address=127.0.0.1:7; sleep 100");
        assert_eq!(process.listening("xds").unwrap(), "127.0.0.1:7".parse().unwrap());
    }

    #[test]
    fn a_process_that_dies_early_shows_its_log() {
        let (_dir, process) = shell("echo no such directory >&2; exit 3");
        let error = process.listening("xds").unwrap_err().to_string();
        assert!(error.contains("no such directory"), "{error}");
    }

    #[test]
    fn children_outlive_the_thread_that_asked_for_them() {
        let (_dir, mut process) = thread::spawn(|| shell("sleep 100")).join().unwrap();
        assert!(process.ended_within(Duration::from_millis(300)).is_err());
        assert!(process.is_running());
        let status = process.terminate(Duration::from_secs(5)).unwrap();
        assert!(!status.success());
    }
}
