//! Other projects' programs, where this machine has them.

use std::path::{Path, PathBuf};

/// Path of Envoy's program, set by `cargo xtask`.
pub const ENVOY: &str = "SEGUE_ENVOY";
/// Path of etcd's program, where it is not on the PATH.
pub const ETCD: &str = "SEGUE_ETCD_SERVER";
/// Set by `cargo xtask test`: a missing peer fails.
pub const REQUIRE_PEERS: &str = "SEGUE_REQUIRE_PEERS";

/// The real Envoy program; a missing one is a message that says what to do.
///
/// The Python package starts it by a script; the program itself is what signals and measurements
/// must reach.
pub fn envoy() -> Result<PathBuf, String> {
    if let Some(program) = std::env::var_os(ENVOY) {
        return Ok(program.into());
    }
    if let Some(program) = beside_this_program().and_then(|peers| packaged_envoy(&peers)) {
        return Ok(program);
    }
    on_path("envoy").ok_or_else(|| "envoy not found, run cargo xtask test".into())
}

/// The real etcd program; a missing one is a message that says what to do.
pub fn etcd() -> Result<PathBuf, String> {
    let named = std::env::var_os(ETCD).map(PathBuf::from);
    named
        .or_else(|| on_path("etcd"))
        .ok_or_else(|| "etcd not found: install etcd-server, or run cargo xtask test".into())
}

/// A Python that has gRPC; a missing one is a message that says what to do.
pub fn grpc_python() -> Result<PathBuf, String> {
    python_with("grpc")
}

/// A Python that has a module; a missing one is a message that says what to do.
pub fn python_with(module: &str) -> Result<PathBuf, String> {
    let python = beside_this_program().map(|peers| peers.join("bin/python"));
    python
        .filter(|python| python.is_file())
        .filter(|_| {
            beside_this_program().is_some_and(|peers| site_packages(&peers, module).is_some())
        })
        .ok_or_else(|| format!("Python with {module} not found, run cargo xtask test"))
}

/// Node.
pub fn node() -> Result<PathBuf, String> {
    on_path("node").ok_or_else(|| "node not found, install Node.js 20 or newer".into())
}

/// The folder with `@grpc/grpc-js-xds`.
pub fn grpc_node_modules() -> Result<PathBuf, String> {
    let modules = beside_this_program().map(|peers| peers.join("node_modules"));
    modules
        .filter(|modules| modules.join("@grpc/grpc-js-xds").is_dir())
        .ok_or_else(|| "grpc-js-xds not found, run cargo xtask test".into())
}

/// A program of this machine.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// `None` where the test shall be skipped; the reason is printed. Fails where peers are required.
pub fn or_skip<T>(peer: Result<T, String>) -> Option<T> {
    match peer {
        Ok(peer) => Some(peer),
        Err(why) => {
            assert!(std::env::var_os(REQUIRE_PEERS).is_none(), "{why}");
            println!("skipped: {why}");
            None
        }
    }
}

/// `TARGET/peers`.
fn beside_this_program() -> Option<PathBuf> {
    let this = std::env::current_exe().ok()?;
    this.ancestors().skip(2).map(|dir| dir.join("peers")).find(|dir| dir.is_dir())
}

/// The program inside the Python package of a virtual environment.
fn packaged_envoy(venv: &Path) -> Option<PathBuf> {
    site_packages(venv, "envoy/_bin/envoy")
}

/// What is installed under this path in a virtual environment.
fn site_packages(venv: &Path, path: &str) -> Option<PathBuf> {
    let lib = std::fs::read_dir(venv.join("lib")).ok()?;
    lib.flatten()
        .map(|python| python.path().join("site-packages").join(path))
        .find(|installed| installed.exists())
}
