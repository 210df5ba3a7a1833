//! A control plane in this process, and the program run against it with captured streams.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use segue_cli::Output;
use segue_control_plane::assembly::{ControlPlane, start};
use segue_control_plane::settings::Settings;
use tempfile::TempDir;
use tokio::sync::Notify;

pub const CHAT: &str = "\
apiVersion: segue.dev/v1alpha1
kind: Service
metadata: {name: chat, labels: {team: talk}}
spec:
  versions:
    - {name: v1, endpoints: [\"127.0.0.1:9001\"]}
    - {name: v2, endpoints: [\"127.0.0.1:9002\"]}
---
apiVersion: segue.dev/v1alpha1
kind: Route
metadata: {name: chat}
spec:
  targetRef: {kind: Service, name: chat}
  splitBy: {header: x-user-id}
  rules:
    - backendRefs:
        - {name: chat, version: v1, weight: 95}
        - {name: chat, version: v2, weight: 5}
";

/// A control plane, the program's server, and a directory for files.
pub struct World {
    pub control_plane: ControlPlane,
    pub directory: TempDir,
}

/// What a run left behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    pub code: u8,
    pub out: String,
    pub err: String,
}

impl World {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let control_plane = start(Settings::local(directory.path().join("data"))).await.unwrap();
        Self { control_plane, directory }
    }

    /// A world that holds [`CHAT`] as revision 1.
    pub async fn with_chat() -> Self {
        let world = Self::new().await;
        let file = world.file("chat.yaml", CHAT);
        assert_eq!(world.segue(&["apply", "-f", &file, "-m", "first"]).await.code, 0);
        world
    }

    pub fn file(&self, name: &str, content: &str) -> String {
        let path: PathBuf = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `chat.yaml` with this weight for v2.
    pub fn chat(&self, v2: u32) -> String {
        let moved = CHAT
            .replace("weight: 95", &format!("weight: {}", 100 - v2))
            .replace("weight: 5}", &format!("weight: {v2}}}"));
        self.file("chat.yaml", &moved)
    }

    pub async fn segue(&self, args: &[&str]) -> Run {
        let server = format!("http://{}", self.control_plane.admin_address);
        run(&[&["--server", server.as_str()], args].concat()).await
    }
}

pub async fn run(args: &[&str]) -> Run {
    run_telling(args, &Notify::new()).await
}

/// Runs, and tells when the first words are printed.
pub async fn run_telling(args: &[&str], printed: &Notify) -> Run {
    let (mut out, mut err) = (Telling { words: Vec::new(), printed }, Vec::new());
    let args = std::iter::once("segue").chain(args.iter().copied()).map(OsString::from);
    let code = segue_cli::run(args, Output::captured(&mut out, &mut err)).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code, out: text(out.words), err: text(err) }
}

struct Telling<'a> {
    words: Vec<u8>,
    printed: &'a Notify,
}

impl Write for Telling<'_> {
    fn write(&mut self, words: &[u8]) -> std::io::Result<usize> {
        self.words.extend_from_slice(words);
        self.printed.notify_one();
        Ok(words.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The cells of each line of a table.
pub fn cells(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .map(|line| line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect()
}
