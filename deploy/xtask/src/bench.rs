//! `cargo xtask bench`

use std::process::Command;

use crate::cargo::{self, Outcome};
use crate::peers;

/// What is measured is built as it is shipped: with fat link-time optimisation.
const PACKAGES: &[&str] =
    &["segue-control-plane", "segue-cli", "segue-sidecar", "segue-tests", "segue-bench"];

pub fn run(what: &str, fast: bool, arguments: &[String]) -> Outcome {
    if what == "instructions" {
        return instructions(arguments);
    }
    peers::install(peers::FOR_BENCH)?;
    let programs = cargo::build("dist", PACKAGES)?;
    let mut command = Command::new(programs.join("segue-bench"));
    command.arg(what).args(arguments);
    if fast {
        command.arg("--fast");
    }
    command.env("SEGUE_BIN_DIR", &programs).env("SEGUE_ENVOY", peers::envoy()?);
    cargo::run(command.current_dir(cargo::root()))
}

/// Only the sidecar is measured, so only that is built with optimisation.
fn instructions(arguments: &[String]) -> Outcome {
    peers::install(peers::FOR_COUNTS)?;
    let programs = cargo::build("dev", PACKAGES)?;
    let sidecar = cargo::build("release", &["segue-sidecar"])?.join("segue-sidecar");
    let mut command = Command::new(programs.join("segue-bench"));
    command.arg("instructions").args(arguments);
    command.env("SEGUE_BIN_DIR", &programs).env("SEGUE_BENCH_SIDECAR", sidecar);
    cargo::run(command.current_dir(cargo::root()))
}
