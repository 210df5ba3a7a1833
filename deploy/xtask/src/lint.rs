//! `cargo xtask lint` and `cargo xtask fmt`

use crate::cargo::{Outcome, cargo, run};

pub fn check() -> Outcome {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
}

pub fn format() -> Outcome {
    run(&mut cargo(&["fmt", "--all"]))
}
