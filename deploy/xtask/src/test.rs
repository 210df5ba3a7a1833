//! `cargo xtask test`

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::cargo::{self, Outcome, cargo};
use crate::peers;

/// Builds and runs everything; where peers cannot be had, says so and fails.
pub fn run(filters: &[String]) -> Outcome {
    peers::install(peers::FOR_TESTS)?;
    let programs = cargo::build("dev", &[])?;
    let prepare = |mut command: Command| -> Outcome<Command> {
        command
            .env("SEGUE_BIN_DIR", &programs)
            .env("SEGUE_ENVOY", peers::envoy()?)
            // A skipped peer would look like a passed test.
            .env("SEGUE_REQUIRE_PEERS", "1")
            .env("CARGO_TARGET_DIR", cargo::target_dir()?);
        Ok(command)
    };
    let has_nextest = cargo(&["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if has_nextest {
        if filters.is_empty() {
            cargo::run(&mut prepare(cargo(&["test", "--quiet", "--workspace", "--doc"]))?)?;
        }
        let mut command = cargo(&["nextest", "run", "--workspace"]);
        for filter in filters {
            let anywhere = ["test", "binary"].map(|kind| format!("{kind}(~{filter})"));
            command.args(["-E", &anywhere.join(" | ")]);
        }
        return cargo::run(&mut prepare(command)?);
    }
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast", "--"]);
    command.args(filters);
    count(prepare(command)?)
}

/// Shows what `cargo test` prints, and adds up its many results.
fn count(mut command: Command) -> Outcome {
    let why = |error: std::io::Error| format!("cargo test: {error}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(why)?;
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            println!("{line}");
            passed += number_before(&line, " passed");
            failed += number_before(&line, " failed");
            ignored += number_before(&line, " ignored");
        }
    }
    let status = child.wait().map_err(why)?;
    println!("{passed} tests passed, {failed} failed, {ignored} ignored");
    if status.success() { Ok(()) } else { Err(format!("cargo test: {status}")) }
}

fn number_before(line: &str, word: &str) -> u32 {
    let Some(results) = line.strip_prefix("test result: ") else { return 0 };
    let Some((before, _)) = results.split_once(word) else { return 0 };
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::number_before;

    #[test]
    fn results_are_counted() {
        let line = "test result: FAILED. 10 passed; 4 failed; 1 ignored; 0 measured";
        let counts = [" passed", " failed", " ignored"].map(|word| number_before(line, word));
        assert_eq!(counts, [10, 4, 1]);
        assert_eq!(number_before("3 passed", " passed"), 0);
    }
}
