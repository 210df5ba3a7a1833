//! The process: settings, logs, signals, exit code.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use segue_control_plane::assembly::{self, ControlPlane};
use segue_control_plane::settings::Settings;
use segue_shared::{settings, shutdown, telemetry};

/// Wait for blocking work at the end.
const LAST_THREADS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let settings: Settings = match settings::parse(std::env::args_os()) {
        Ok(settings) => settings,
        Err(error) => return ExitCode::from(error.report()),
    };
    if let Err(error) = telemetry::init(&settings.log_level, settings.log_json) {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    // Each connection is an open file, and many systems allow 1024 where nobody asks for more.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: threads cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(settings));
    // A name server that does not answer holds its threads; nobody waits for them.
    runtime.shutdown_timeout(LAST_THREADS);
    code
}

async fn run(settings: Settings) -> ExitCode {
    let insecure_dev = settings.insecure_dev;
    let mut control_plane = match assembly::start(settings).await {
        Ok(control_plane) => control_plane,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    announce(&control_plane, insecure_dev);
    tokio::select! {
        signal = shutdown::terminate() => match signal {
            Ok(signal) => {
                tracing::info!(signal, "stopping");
                control_plane.shutdown().await;
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("error: signals cannot be received: {error}");
                ExitCode::FAILURE
            }
        },
        part = control_plane.failed() => {
            eprintln!("error: {part} ended, so the process does: see the logs");
            ExitCode::FAILURE
        }
    }
}

/// Where it listens, for people and scripts that let it choose.
fn announce(control_plane: &ControlPlane, insecure_dev: bool) {
    let mut out = std::io::stdout().lock();
    if insecure_dev {
        let warning = "--insecure-dev: nobody is asked who they are; whoever reaches the ports \
                       reads and changes everything";
        tracing::warn!("{warning}");
        let _ = writeln!(out, "warning: {warning}");
    }
    for (name, address) in [
        ("xds", control_plane.xds_address),
        ("admin", control_plane.admin_address),
        ("http", control_plane.http_address),
    ] {
        // Whoever closed standard output does not want to know.
        let _ = writeln!(out, "listening name={name} address={address}");
    }
    let _ = out.flush();
}
