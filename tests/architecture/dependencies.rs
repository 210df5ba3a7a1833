//! Floors: imports go down only, and the pure crates touch nothing of the outside world.

use std::collections::BTreeMap;
use std::fs;

use segue_tests::binaries::workspace_root;

use crate::source::{assert_none, rust_files};

/// Each crate and the crates of the workspace that it may use, besides those for its tests.
const FLOORS: &[(&str, &str, &[&str])] = &[
    ("segue-proto", "proto", &[]),
    ("segue-shared", "shared", &["segue-proto"]),
    ("segue-control-plane-core", "control-plane/core", &["segue-proto", "segue-shared"]),
    ("segue-sidecar-core", "sidecar/core", &["segue-proto", "segue-shared"]),
    (
        "segue-control-plane",
        "control-plane",
        &["segue-proto", "segue-shared", "segue-control-plane-core"],
    ),
    (
        "segue-cli",
        "control-plane/cli",
        &["segue-proto", "segue-shared", "segue-control-plane-core"],
    ),
    ("segue-sidecar", "sidecar", &["segue-proto", "segue-shared", "segue-sidecar-core"]),
    ("segue-tests", "tests", &["segue-proto", "segue-shared"]),
    ("segue-bench", "tests/bench", &["segue-tests"]),
    (
        "segue-fuzz",
        "tests/fuzz",
        &["segue-proto", "segue-shared", "segue-control-plane-core", "segue-sidecar-core"],
    ),
    ("segue-libfuzzer", "tests/fuzz/libfuzzer", &["segue-fuzz"]),
    ("segue-demo", "deploy/demo", &["segue-tests", "segue-proto"]),
    ("xtask", "deploy/xtask", &[]),
];

/// What a pure crate must not name, and why.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "no tasks"),
    ("std::net::Tcp", "no sockets"),
    ("std::net::Udp", "no sockets"),
    ("std::os::unix::net", "no sockets"),
    ("std::fs", "no disk"),
    ("std::thread", "no threads"),
    ("std::process", "no processes"),
    ("std::env", "no environment"),
    ("SystemTime::now", "no clock: time is an argument"),
    ("Instant::now", "no clock: time is an argument"),
    ("rand::", "no hidden randomness: draws are arguments"),
    ("RandomState", "no hidden randomness"),
];

#[test]
fn crates_depend_only_on_floors_below() {
    let mut found = Vec::new();
    for (name, folder, allowed) in FLOORS {
        let file = workspace_root().join(folder).join("Cargo.toml");
        let text = fs::read_to_string(&file).unwrap();
        for (line, section, dependency) in dependencies(&text) {
            let ours = FLOORS.iter().any(|(name, ..)| *name == dependency);
            // A crate's own tests may look further, but never across to the other plane.
            let allowed = allowed.contains(&dependency.as_str())
                || (section == "dev-dependencies"
                    && (name.starts_with("segue-tests") || same_plane(name, &dependency)));
            if ours && !allowed {
                found.push(format!("{folder}/Cargo.toml:{line}: {name} must not use {dependency}"));
            }
        }
    }
    assert_none("imports go down only", &found);
}

/// Every member of the workspace stands on a floor.
#[test]
fn every_crate_has_a_floor() {
    let root = fs::read_to_string(workspace_root().join("Cargo.toml")).unwrap();
    let members = root.split("members = [").nth(1).unwrap().split(']').next().unwrap();
    let found: Vec<String> = members
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|member| !FLOORS.iter().any(|(_, folder, _)| folder == member))
        .map(|member| format!("{member}: not in tests/architecture/dependencies.rs"))
        .collect();
    assert_none("every crate has a floor", &found);
}

#[test]
fn the_planes_never_import_each_other() {
    let mut found = Vec::new();
    for (folder, other) in [("control-plane", "segue_sidecar"), ("sidecar", "segue_control_plane")]
    {
        for file in rust_files(&[folder]) {
            for (line, code) in file.code_lines() {
                // The crate or its core, as a path; metrics may be named as they like.
                let paths = [format!("{other}::"), format!("{other}_core::")];
                if paths.iter().any(|path| code.contains(path.as_str())) {
                    found.push(format!("{}:{line}: {}", file.path.display(), code.trim()));
                }
            }
        }
    }
    assert_none("between the planes is only the network", &found);
}

#[test]
fn cores_are_pure() {
    let mut found = Vec::new();
    for file in rust_files(&["control-plane/core/src", "sidecar/core/src"]) {
        if file.is_test() {
            continue;
        }
        for (line, code) in file.code_lines() {
            for (word, why) in IMPURE {
                if code.contains(word) {
                    found.push(format!("{}:{line}: {word}: {why}", file.path.display()));
                }
            }
        }
    }
    for folder in ["control-plane/core", "sidecar/core"] {
        let text = fs::read_to_string(workspace_root().join(folder).join("Cargo.toml")).unwrap();
        for (line, section, dependency) in dependencies(&text) {
            let io = ["tokio", "hyper", "tonic", "socket2", "rand", "h2", "libc"];
            if section == "dependencies" && io.contains(&dependency.as_str()) {
                found.push(format!("{folder}/Cargo.toml:{line}: {dependency} does I/O"));
            }
        }
    }
    assert_none("cores are pure", &found);
}

/// Line, section and name of each dependency.
fn dependencies(cargo_toml: &str) -> Vec<(usize, String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for (i, line) in cargo_toml.lines().enumerate() {
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
        } else if section.ends_with("dependencies") {
            let name = line.split(['=', '.', ' ']).next().unwrap_or("");
            if !name.is_empty() && !name.starts_with('#') {
                found.push((i + 1, section.clone(), name.to_owned()));
            }
        }
    }
    found
}

fn same_plane(a: &str, b: &str) -> bool {
    let plane = |name: &str| {
        let planes = BTreeMap::from([("segue-cli", 1), ("segue-sidecar", 2)]);
        let known = planes.iter().find(|(prefix, _)| name.starts_with(*prefix));
        known.map_or(i32::from(name.starts_with("segue-control-plane")), |(_, plane)| *plane)
    };
    plane(a) == plane(b)
}

#[test]
fn dependencies_are_read_in_both_spellings() {
    let text = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\n# why\nb = \"1\"\n";
    let found = dependencies(text);
    let names: Vec<(usize, &str)> = found.iter().map(|(i, _, name)| (*i, name.as_str())).collect();
    assert_eq!(names, [(4, "a"), (6, "b")]);
}
