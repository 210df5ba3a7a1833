//! The workspace's own programs, built when needed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Directory that holds the programs, set by whoever has built them already.
pub const BINARY_DIR: &str = "SEGUE_BIN_DIR";

/// Paths of the programs.
#[derive(Clone, Debug)]
pub struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    /// The programs of the profile that this process was built with. Builds them unless
    /// [`BINARY_DIR`] says where they are.
    pub fn find() -> io::Result<Self> {
        static FOUND: OnceLock<Result<Binaries, String>> = OnceLock::new();
        FOUND
            .get_or_init(|| {
                if let Some(dir) = std::env::var_os(BINARY_DIR) {
                    return Ok(Self { dir: dir.into() });
                }
                let dir = profile_dir().map_err(|error| error.to_string())?;
                build(&dir).map_err(|error| error.to_string())?;
                Ok(Self { dir })
            })
            .clone()
            .map_err(io::Error::other)
    }

    pub fn control_plane(&self) -> PathBuf {
        self.dir.join("segue-control-plane")
    }

    pub fn sidecar(&self) -> PathBuf {
        self.dir.join("segue-sidecar")
    }

    pub fn cli(&self) -> PathBuf {
        self.dir.join("segue")
    }

    pub fn echo(&self) -> PathBuf {
        self.dir.join("segue-echo")
    }
}

/// Root of the workspace's sources.
pub fn workspace_root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// `TARGET/PROFILE`, where this process's own executable lies or, for tests, the `deps` in it.
fn profile_dir() -> io::Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let dir =
        executable.parent().ok_or_else(|| io::Error::other("no directory of this program"))?;
    let dir = if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir };
    Ok(dir.to_owned())
}

/// Cargo knows best what is stale; where nothing is, this takes a moment. Test processes that start
/// together take turns.
fn build(dir: &Path) -> io::Result<()> {
    let lock = File::create(dir.join(".segue-binaries.lock"))?;
    lock.lock()?;
    let profile = match dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let target = dir.parent().unwrap_or(dir);
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--workspace", "--bins", "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(workspace_root())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!(
            "cannot build the workspace's programs:\n{}",
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    Ok(())
}
