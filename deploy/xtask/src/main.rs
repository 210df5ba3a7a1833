//! `cargo xtask`: what people run in this repository.

mod bench;
mod cargo;
mod demo;
mod fuzz;
mod lint;
mod peers;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "What people run in this repository")]
struct Flags {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows a service moving from v1 to v2 under load, on this terminal
    Demo {
        /// Shorter steps: at most 30 seconds
        #[arg(long)]
        fast: bool,
    },
    /// Runs all tests, with real peers, and ends with a count
    Test {
        /// Only tests with one of these in the name of the test or of its program
        filters: Vec<String>,
    },
    /// Measures the sidecar beside Envoy, HAProxy and nginx, or the control plane, in one run; or
    /// counts the instructions of a request, and fails where they are too many
    Bench {
        /// What to measure
        #[arg(default_value = "data-path", value_parser = ["data-path", "control-plane", "instructions"])]
        what: String,
        /// Fewer and shorter rounds: a look, not a measurement
        #[arg(long)]
        fast: bool,
        /// More arguments of segue-bench, after `--`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Feeds everything that parses bytes of others with made-up bytes, and fails where what must
    /// hold of it does not
    Fuzz {
        /// Only this target; all of them one after the other without it
        target: Option<String>,
        /// Time for each target
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
    },
    /// Checks format and lints as CI does
    Lint,
    /// Formats the sources
    Fmt,
}

fn main() -> ExitCode {
    let result = match Flags::parse().verb {
        Verb::Demo { fast } => demo::run(fast),
        Verb::Test { filters } => test::run(&filters),
        Verb::Bench { what, fast, arguments } => bench::run(&what, fast, &arguments),
        Verb::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
        Verb::Lint => lint::check(),
        Verb::Fmt => lint::format(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}
