//! A real etcd, for one test.

use std::env;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::{EtcdSettings, EtcdStore};

const PROGRAM: &str = "SEGUE_ETCD_SERVER";
const REQUIRE_PEERS: &str = "SEGUE_REQUIRE_PEERS";
const START_MOST: Duration = Duration::from_secs(30);
/// `/segue/` and `/segue0`, in base 64: between them is all that we write.
const KEY: &str = "L3NlZ3VlLw==";
const KEY_END: &str = "L3NlZ3VlMA==";

/// One member; killed with the test.
pub struct EtcdProcess {
    program: PathBuf,
    directory: TempDir,
    port: u16,
    peer_port: u16,
    child: Option<Child>,
}

impl EtcdProcess {
    /// `None` where this machine has none, which fails where peers are required.
    pub async fn start_or_skip() -> Option<Self> {
        let Some(program) = program() else {
            let why = "etcd not found: install etcd-server, or run cargo xtask test";
            assert!(env::var_os(REQUIRE_PEERS).is_none(), "{why}");
            println!("skipped: {why}");
            return None;
        };
        // Another process may take a free port before etcd does.
        for _ in 0..3 {
            let directory = tempfile::tempdir().unwrap();
            let (port, peer_port) = (free_port(), free_port());
            let program = program.clone();
            let mut etcd = Self { program, directory, port, peer_port, child: None };
            if etcd.start().await {
                return Some(etcd);
            }
        }
        panic!("etcd does not start");
    }

    /// Starts it on what it had. `false`: it ended at once.
    pub async fn start(&mut self) -> bool {
        let client = self.url();
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let child = Command::new("setpriv")
            // With the thread that starts it, which is the test's.
            .args(["--pdeathsig", "KILL"])
            .arg(&self.program)
            .args(["--name", "one", "--data-dir"])
            .arg(self.directory.path().join("etcd"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + START_MOST;
        while Instant::now() < deadline {
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return true;
            }
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// As a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone_already = child.kill();
            child.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on it knows `segue` by the password `p:w`, and nobody else but `root`.
    pub async fn ask_for_passwords(&self) {
        let permission = format!(
            r#"{{"name":"segue","perm":{{"permType":"READWRITE","key":"{KEY}","range_end":"{KEY_END}"}}}}"#
        );
        for (path, body) in [
            ("user/add", r#"{"name":"root","password":"secret"}"#),
            ("role/add", r#"{"name":"root"}"#),
            ("user/grant", r#"{"user":"root","role":"root"}"#),
            ("user/add", r#"{"name":"segue","password":"p:w"}"#),
            ("role/add", r#"{"name":"segue"}"#),
            ("role/grant", permission.as_str()),
            ("user/grant", r#"{"user":"segue","role":"segue"}"#),
            ("enable", "{}"),
        ] {
            self.post(&format!("auth/{path}"), body).await;
        }
    }

    /// It forgets all that we wrote.
    pub async fn lose_everything(&self) {
        self.post("kv/deleterange", &format!(r#"{{"key":"{KEY}","range_end":"{KEY_END}"}}"#)).await;
    }

    async fn post(&self, path: &str, body: &str) {
        let request = format!(
            "POST /v3/{path} HTTP/1.1\r\nhost: etcd\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }

    pub fn settings(&self) -> EtcdSettings {
        EtcdSettings { endpoints: vec![self.url()], ..EtcdSettings::default() }
    }

    /// A store that is followed as long as the test runs.
    pub async fn connect(&self, retention: usize) -> EtcdStore {
        let (store, follower) = EtcdStore::open(&self.settings(), retention).await.unwrap();
        tokio::spawn(follower.run());
        store
    }
}

impl Drop for EtcdProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

fn program() -> Option<PathBuf> {
    if let Some(program) = env::var_os(PROGRAM) {
        return Some(program.into());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join("etcd")).find(|file| file.is_file())
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
