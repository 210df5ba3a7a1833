//! Files: their length, and words that must not stand in them.

use crate::source::{assert_none, rust_files};

const ALL: &[&str] = &["proto", "shared", "control-plane", "sidecar", "deploy", "tests"];
/// One story a file; 400 is the aim.
const MAX_LINES: usize = 500;

#[test]
fn no_file_is_longer_than_its_story() {
    let mut found = Vec::new();
    for file in rust_files(ALL) {
        let lines = file.text.lines().count();
        if lines > MAX_LINES {
            found.push(format!("{}:{lines}: {lines} lines", file.path.display()));
        }
    }
    assert_none("files have at most 500 lines", &found);
}

#[test]
fn no_glob_imports_outside_tests() {
    let mut found = Vec::new();
    for file in rust_files(ALL).iter().filter(|file| !file.is_test()) {
        for (line, code) in file.code_lines() {
            let code = code.trim();
            let import = code.starts_with("use ") || code.starts_with("pub use ");
            if import && code.contains("::*") {
                found.push(format!("{}:{line}: {code}", file.path.display()));
            }
        }
    }
    assert_none("imports name what they take", &found);
}

/// Names that say nothing about the role.
#[test]
fn names_say_the_role() {
    const EMPTY: &[&str] = &["Manager", "Handler", "Helper", "Util", "Utils", "Common", "Data"];
    let mut found = Vec::new();
    for file in rust_files(ALL) {
        for (line, code) in file.code_lines() {
            let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            while let Some(word) = words.next() {
                // An indented `type` belongs to a trait, which has chosen the name.
                let alias = word == "type" && !code.starts_with(' ');
                if !alias && !matches!(word, "struct" | "enum" | "trait") {
                    continue;
                }
                let name = words.next().unwrap_or("");
                if let Some(empty) = EMPTY.iter().find(|empty| name.ends_with(*empty)) {
                    found.push(format!("{}:{line}: {name}: {empty}", file.path.display()));
                }
            }
        }
        let stem = file.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
        if matches!(stem, "util" | "utils" | "helpers" | "helper" | "common" | "misc" | "errors") {
            found.push(format!("{}:1: a file named {stem}", file.path.display()));
        }
    }
    assert_none("names say the role", &found);
}

/// Every queue has a limit.
#[test]
fn no_unbounded_queues() {
    // In two halves, so that this file does not find itself.
    let words = [["unbounded", "_channel"], ["unbounded", "()"], ["mpsc", "::channel()"]];
    let mut found = Vec::new();
    for file in rust_files(ALL).iter().filter(|file| !file.is_test()) {
        for (line, code) in file.code_lines() {
            for word in words.iter().map(|halves| halves.concat()) {
                if code.contains(&word) {
                    found.push(format!("{}:{line}: {word}", file.path.display()));
                }
            }
        }
    }
    assert_none("every queue has a limit", &found);
}

/// Where the compiler's guard against `unsafe` is lifted, a named module says why.
#[test]
fn unsafe_has_a_reason() {
    let attribute = ["allow(", "unsafe_code)"].concat();
    let mut found = Vec::new();
    for file in rust_files(ALL) {
        for (line, code) in file.code_lines() {
            if !code.contains(&attribute) {
                continue;
            }
            let whole_file = code.trim_start().starts_with("#![");
            let reasoned = file
                .text
                .lines()
                .take(line)
                .any(|line| line.trim_start().starts_with("//!") && line.contains("`unsafe`"));
            if !whole_file || !reasoned {
                found.push(format!(
                    "{}:{line}: lift it for one file, whose head says why `unsafe` is needed",
                    file.path.display()
                ));
            }
        }
    }
    assert_none("unsafe has a reason", &found);
}

/// Addresses of one developer's machine have no place in the sources.
#[test]
fn no_paths_of_one_machine() {
    let homes = [["/ho", "me/"], ["/ro", "ot/"], ["/Us", "ers/"], ["/wo", "rk/"]];
    let mut found = Vec::new();
    for file in rust_files(ALL) {
        for (i, text) in file.text.lines().enumerate() {
            for home in homes.iter().map(|halves| halves.concat()) {
                if text.contains(&format!("\"{home}")) {
                    found.push(format!("{}:{}: {home}", file.path.display(), i + 1));
                }
            }
        }
    }
    assert_none("no paths of one machine", &found);
}
