//! `cargo xtask fuzz`

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo::{self, Outcome, cargo, on_path};

/// A workspace of its own, because all of it is compiled with [`COUNTERS`].
const PROGRAMS: &str = "tests/fuzz/libfuzzer";
/// Seeds, and what was found once.
const CORPUS: &str = "tests/fuzz/corpus";
/// How the fuzzer sees which way an input goes. A stable compiler takes them all.
const COUNTERS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg",
    "fuzzing",
];
/// An input that takes longer is a finding.
const SECONDS_AN_INPUT: u32 = 10;
/// An input that takes more is a finding.
const MIB_AN_INPUT: u32 = 2048;
/// Longer ones find little and take long.
const BYTES_AN_INPUT: u32 = 4096;
/// Last lines of a log that tell what was found.
const TOLD_LINES: usize = 40;

/// Runs one target or all, one after the other, each for so long.
pub fn run(target: Option<&str>, seconds: u64) -> Outcome {
    let all = targets()?;
    let chosen: Vec<&str> = match target {
        None => all.iter().map(String::as_str).collect(),
        Some(one) if all.iter().any(|name| name == one) => vec![one],
        Some(other) => {
            return Err(format!("there is no target {other}; there are: {}", all.join(", ")));
        }
    };
    let programs = build()?;
    let mut found = Vec::new();
    for name in chosen {
        match fuzz(&programs, name, seconds)? {
            Ok(told) => println!("{name:<16} {told}"),
            Err(told) => {
                println!("{name:<16} FOUND SOMETHING\n{told}");
                found.push(name);
            }
        }
    }
    if found.is_empty() { Ok(()) } else { Err(format!("findings in {}", found.join(", "))) }
}

/// Names of all targets.
fn targets() -> Outcome<Vec<String>> {
    let folder = cargo::root().join(PROGRAMS).join("fuzz_targets");
    let entries = fs::read_dir(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let names = files.filter_map(|file| Some(file.file_stem()?.to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

/// Builds all programs and gives the folder that holds them.
fn build() -> Outcome<PathBuf> {
    if ["c++", "g++", "clang++"].iter().all(|compiler| on_path(compiler).is_none()) {
        return Err(
            "LLVM's fuzzer is written in C++: it takes a compiler (apt-get install g++)".into()
        );
    }
    let target = folder()?;
    let host = host()?;
    // With a target that is named, build scripts and macros go without counters.
    let mut command = cargo(&["build", "--quiet", "--release", "--target", &host]);
    command
        .current_dir(cargo::root().join(PROGRAMS))
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", COUNTERS.join("\x1f"));
    cargo::run(&mut command)?;
    Ok(target.join(host).join("release"))
}

/// Runs a target. `Ok` with what was done, or `Err` with what was found.
fn fuzz(programs: &Path, name: &str, seconds: u64) -> Outcome<Result<String, String>> {
    let folder = folder()?;
    let (corpus, findings) = (folder.join("corpus").join(name), folder.join("findings").join(name));
    let log = folder.join(format!("{name}.log"));
    let why = |error: std::io::Error| format!("{name}: {error}");
    for folder in [&corpus, &findings] {
        fs::create_dir_all(folder).map_err(why)?;
    }
    let mut command = Command::new(programs.join(name));
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={SECONDS_AN_INPUT}"))
        .arg(format!("-rss_limit_mb={MIB_AN_INPUT}"))
        .arg(format!("-max_len={BYTES_AN_INPUT}"))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg("-print_final_stats=1")
        // What is new goes to the first, the seeds are only read.
        .args([&corpus, &cargo::root().join(CORPUS).join(name)])
        .stderr(File::create(&log).map_err(why)?);
    let status = cargo::status(&mut command)?;
    let told = fs::read(&log).map_err(why)?;
    let told = String::from_utf8_lossy(&told);
    if status.success() {
        let runs = number_behind(&told, "stat::number_of_executed_units:");
        let a_second = number_behind(&told, "stat::average_exec_per_sec:");
        return Ok(Ok(format!("{runs:>10} inputs, {a_second:>7} a second, nothing found")));
    }
    let lines: Vec<&str> = told.lines().collect();
    let last = lines[lines.len().saturating_sub(TOLD_LINES)..].join("\n");
    let next = format!(
        "The input lies in {}. Put it into {CORPUS}/{name}: then `cargo test -p segue-fuzz` fails \
         until it holds.",
        findings.display()
    );
    Ok(Err(format!("{last}\n{next}")))
}

/// Where programs, logs, grown corpora and findings go.
fn folder() -> Outcome<PathBuf> {
    Ok(cargo::target_dir()?.join("fuzz"))
}

/// The platform of this machine, in the compiler's words.
fn host() -> Outcome<String> {
    let output = Command::new("rustc").arg("-vV").output();
    let output = output.map_err(|error| format!("rustc -vV: {error}"))?;
    let told = String::from_utf8_lossy(&output.stdout);
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc -vV tells no host".to_owned())
}

fn number_behind(text: &str, words: &str) -> u64 {
    let rest = text.split(words).nth(1).unwrap_or_default();
    rest.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_programs_that_there_are() {
        let names = targets().unwrap();
        assert!(
            names.len() >= 10 && names.iter().any(|name| name == "canonical_path"),
            "{names:?}"
        );
    }

    #[test]
    fn what_was_done_is_read_from_the_log() {
        let told =
            "Done 12 runs\nstat::number_of_executed_units: 12\nstat::average_exec_per_sec:     4\n";
        assert_eq!(number_behind(told, "stat::number_of_executed_units:"), 12);
        assert_eq!(number_behind(told, "stat::average_exec_per_sec:"), 4);
        assert_eq!(number_behind("", "stat::average_exec_per_sec:"), 0);
    }
}
