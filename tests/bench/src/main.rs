//! `cargo xtask bench`: the sidecar beside Envoy, HAProxy and nginx, measured in one run, and the
//! control plane under thousands of streams.
//!
//! On the data path each proxy has one worker on one core; load (`wrk`, `h2load`) and upstream (nginx) have the other. The
//! rounds of all proxies are interleaved in rotating order, so that a slow moment of the machine
//! meets all of them. Only ratios taken in one run count, and CPU time per request first of all.

mod control_plane;
mod data_path;
mod instructions;
mod load;
mod measure;
mod peers;
mod report;
mod tls;
mod upstream;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

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
    /// Traffic through one proxy at a time.
    DataPath {
        /// Only works whose name holds one of these texts.
        #[arg(long, value_delimiter = ',')]
        works: Vec<String>,
        /// Services of the snapshot that is applied.
        #[arg(long, default_value_t = 10_000)]
        services: usize,
    },
    /// User instructions of a request; fails where they are more than they may be.
    Instructions,
    /// One change among thousands of xDS streams.
    ControlPlane {
        /// Streams of the main part.
        #[arg(long)]
        streams: Option<usize>,
        /// Services of the main part.
        #[arg(long, default_value_t = 1_000)]
        services: usize,
    },
    /// mTLS with callers: requests, full handshakes and resumed ones.
    Tls,
    /// The load side of `tls`.
    #[command(hide = true)]
    TlsLoad(tls::Load),
    /// The load side of `control-plane`.
    #[command(hide = true)]
    Herd(control_plane::Herd),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    let all = Work::DataPath { works: Vec::new(), services: 10_000 };
    let done = match arguments.work.take().unwrap_or(all) {
        Work::DataPath { works, services } => data_path(arguments, works, services),
        Work::Instructions => instructions(arguments.output),
        Work::ControlPlane { streams, services } => control_plane(&arguments, streams, services),
        Work::Tls => tls_works(arguments),
        Work::TlsLoad(load) => tls::run_load(&load),
        Work::Herd(herd) => control_plane::run_herd(&herd),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn data_path(arguments: Arguments, works: Vec<String>, services: usize) -> io::Result<()> {
    // A thousand connections are held open.
    rlimit::increase_nofile_limit(u64::MAX)?;
    let plan = data_path::Plan {
        rounds: if arguments.fast { 2 } else { arguments.rounds.max(1) },
        seconds: arguments.fast.then_some(1),
        only: arguments.only,
        works,
        services,
    };
    match arguments.output {
        Format::Table => {
            data_path::run(&plan, report::print_outcome)?;
            report::print_legend();
        }
        Format::Json => println!("{:#}", report::json(&data_path::run(&plan, |_| ())?)),
    }
    Ok(())
}

fn tls_works(arguments: Arguments) -> io::Result<()> {
    let plan = tls::Plan {
        rounds: if arguments.fast { 2 } else { arguments.rounds.max(1) },
        seconds: arguments.fast.then_some(1),
        only: arguments.only,
    };
    match arguments.output {
        Format::Table => {
            tls::run(&plan, report::print_outcome)?;
            report::print_legend();
        }
        Format::Json => println!("{:#}", report::json(&tls::run(&plan, |_| ())?)),
    }
    Ok(())
}

fn instructions(output: Format) -> io::Result<()> {
    let costs = instructions::run()?;
    match output {
        Format::Table => report::print_instructions(&costs),
        Format::Json => println!("{:#}", report::instructions_json(&costs)),
    }
    let too_much: Vec<&str> =
        costs.iter().filter(|cost| cost.is_too_much()).map(|cost| cost.work.name).collect();
    if too_much.is_empty() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "more instructions than a request may cost: {}",
        too_much.join(", ")
    )))
}

fn control_plane(arguments: &Arguments, streams: Option<usize>, services: usize) -> io::Result<()> {
    let fast = arguments.fast;
    let plan = control_plane::Plan {
        streams: streams.unwrap_or(if fast { 1_000 } else { 10_000 }),
        services,
        compared_streams: if fast { 100 } else { 1_000 },
        compared_services: vec![100, 1_000, 10_000],
        changes: if fast { 2 } else { arguments.rounds.max(1) },
        churn: Duration::from_secs(if fast { 5 } else { 60 }),
    };
    let outcome = control_plane::run(&plan)?;
    match arguments.output {
        Format::Table => control_plane::print_table(&outcome),
        Format::Json => println!("{:#}", control_plane::json(&outcome)),
    }
    Ok(())
}
