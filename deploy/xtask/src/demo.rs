//! `cargo xtask demo`

use std::process::Command;

use crate::cargo::{self, Outcome};

/// Built as users run them, so that the latency shown is real.
const PACKAGES: &[&str] =
    &["segue-control-plane", "segue-cli", "segue-sidecar", "segue-tests", "segue-demo"];

pub fn run(fast: bool) -> Outcome {
    let programs = cargo::build("release", PACKAGES)?;
    let mut command = Command::new(programs.join("segue-demo"));
    if fast {
        command.arg("--fast");
    }
    // The demo has said why.
    if cargo::status(command.env("SEGUE_BIN_DIR", &programs).current_dir(cargo::root()))?.success()
    {
        Ok(())
    } else {
        Err("the demo's verdict does not hold".into())
    }
}
