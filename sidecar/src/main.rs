//! The process: settings, logs, signals, exit code.

use std::io::Write as _;
use std::process::ExitCode;

use segue_shared::{settings, shutdown, telemetry};
use segue_sidecar::assembly::{self, Sidecar};
use segue_sidecar::capture;
use segue_sidecar::settings::Settings;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == "capture") {
        return capture::run(arguments);
    }
    let settings: Settings = match settings::parse(std::env::args_os()) {
        Ok(settings) => settings,
        Err(error) => return ExitCode::from(error.report()),
    };
    let log_level = match telemetry::init(&settings.log_level, settings.log_json) {
        Ok(log_level) => log_level,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    // The control side only: workers have runtimes of their own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(run(settings, log_level))
}

async fn run(settings: Settings, log_level: telemetry::LogLevel) -> ExitCode {
    let sidecar = match assembly::start_with(settings, Some(log_level)).await {
        Ok(sidecar) => sidecar,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    announce(&sidecar);
    tokio::select! {
        signal = shutdown::terminate() => match signal {
            Ok(signal) => tracing::info!(signal, "draining"),
            Err(error) => {
                eprintln!("error: signals cannot be received: {error}");
                return ExitCode::FAILURE;
            }
        },
        () = sidecar.drain_asked() => {}
    }
    tokio::select! {
        () = sidecar.shutdown() => ExitCode::SUCCESS,
        // Asked twice: at once.
        _ = shutdown::terminate() => ExitCode::FAILURE,
    }
}

/// Where it listens, for people and scripts that let it choose.
fn announce(sidecar: &Sidecar) {
    let mut out = std::io::stdout().lock();
    let inbound = sidecar.inbound_address.map(|address| ("inbound", address));
    let always = [("outbound", sidecar.outbound_address), ("admin", sidecar.admin_address)];
    for (name, address) in inbound.into_iter().chain(always) {
        // Whoever closed the other end does not want to know.
        let _ = writeln!(out, "listening name={name} address={address}");
    }
    let _ = out.flush();
}
