//! `cargo xtask bench`: the sidecar beside Envoy, HAProxy and nginx, measured in one run.
//!
//! Each proxy has one worker on one core; load (`wrk`, `h2load`) and upstream (nginx) have the other. The
//! rounds of all proxies are interleaved in rotating order, so that a slow moment of the machine
//! meets all of them. Only ratios taken in one run count, and CPU time per request first of all.

mod data_path;
mod load;
mod measure;
mod peers;
mod report;
mod upstream;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(about = "Measures Segue beside its peers in one run")]
struct Arguments {
    #[command(subcommand)]
    work: Option<Work>,
    /// Rounds of each proxy and work.
    #[arg(long, global = true, default_value_t = 6)]
    rounds: u32,
    /// Two short rounds: a look, not a measurement.
    #[arg(long, global = true)]
    fast: bool,
    /// How the result is printed.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// Only these proxies.
    #[arg(long, global = true, value_delimiter = ',')]
    only: Vec<String>,
}

#[derive(Subcommand)]
enum Work {
    /// HTTP/1.1 and HTTP/2 through one proxy.
    DataPath,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Work::DataPath = arguments.work.unwrap_or(Work::DataPath);
    let plan = data_path::Plan {
        rounds: if arguments.fast { 2 } else { arguments.rounds.max(1) },
        seconds: arguments.fast.then_some(1),
        only: arguments.only,
    };
    match data_path::run(&plan) {
        Ok(results) => {
            match arguments.output {
                Format::Table => report::print_table(&results),
                Format::Json => println!("{:#}", report::json(&results)),
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
