//! gRPC's own xDS clients, in Python and in Node, calling without a pause.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use segue_tests::{parent_death, peers, wait};
use serde_json::{Value, json};

/// Implementations.
#[derive(Clone, Copy, Debug)]
pub enum Language {
    Python,
    Node,
}

/// A client process. It ends when this is dropped.
pub struct GrpcClient {
    child: Child,
    totals: Arc<Mutex<Totals>>,
}

/// What it did since it started.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub versions: BTreeMap<String, u64>,
    pub failed: u64,
    pub error: String,
}

impl Totals {
    pub fn calls(&self) -> u64 {
        self.versions.values().sum()
    }

    pub fn of(&self, version: &str) -> u64 {
        self.versions.get(version).copied().unwrap_or(0)
    }
}

impl GrpcClient {
    /// Starts a client that calls `xds:///SERVICE`. `Err`: what is missing on this machine.
    pub fn start(language: Language, xds: SocketAddr, service: &str) -> Result<Self, String> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/peers");
        let mut command = match language {
            Language::Python => {
                let mut command = Command::new(peers::grpc_python()?);
                command.arg(scripts.join("client.py"));
                command
            }
            Language::Node => {
                let mut command = Command::new(peers::node()?);
                command.arg(scripts.join("client.js"));
                command.env("SEGUE_NODE_MODULES", peers::grpc_node_modules()?);
                command
            }
        };
        command
            .arg(format!("xds:///{service}"))
            .env("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap(language, xds).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        Self::run(command).map_err(|error| error.to_string())
    }

    fn run(command: Command) -> io::Result<Self> {
        let mut child = parent_death::spawn(command)?;
        let out = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        let totals = Arc::new(Mutex::new(Totals::default()));
        let shared = Arc::clone(&totals);
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Ok(said) = serde_json::from_str::<Value>(&line) {
                    *shared.lock().unwrap_or_else(PoisonError::into_inner) = read(&said);
                }
            }
        });
        Ok(Self { child, totals })
    }

    pub fn totals(&self) -> Totals {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until, in a window of calls that begins now, `fits` holds; gives the window.
    pub fn settles(
        &self,
        what: &str,
        calls: u64,
        fits: impl Fn(&dyn Fn(&str) -> f64) -> bool,
    ) -> io::Result<()> {
        let mut start = self.totals();
        wait::until(what, Duration::from_secs(30), || {
            let now = self.totals();
            let made = now.calls() - start.calls();
            if made < calls {
                return None;
            }
            let share = |version: &str| (now.of(version) - start.of(version)) as f64 / made as f64;
            if fits(&share) {
                return Some(());
            }
            start = now;
            None
        })
        .map_err(|error| io::Error::other(format!("{error}; {:?}", self.totals())))
    }

    /// Waits for this many more calls.
    pub fn goes_on(&self, calls: u64) -> io::Result<()> {
        self.settles("calls go on", calls, |_| true)
    }
}

impl Drop for GrpcClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(said: &Value) -> Totals {
    let versions = said["versions"].as_object().into_iter().flatten();
    Totals {
        versions: versions
            .map(|(version, calls)| (version.clone(), calls.as_u64().unwrap_or(0)))
            .collect(),
        failed: said["failed"].as_u64().unwrap_or(0),
        error: said["error"].as_str().unwrap_or_default().to_owned(),
    }
}

fn bootstrap(language: Language, xds: SocketAddr) -> Value {
    json!({
        "xds_servers": [{
            "server_uri": xds.to_string(),
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        }],
        "node": {
            "id": format!("grpc-{language:?}"),
            "cluster": "callers",
            // grpc-js refuses a node without it.
            "locality": {"region": "r", "zone": "z"},
        },
    })
}
