//! The core story on one terminal: two versions of a service run, a sidecar sends the traffic of a
//! thousand users, and the weight moves from v1 to v2 while the control plane crashes once.

mod screen;
mod story;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use clap::Parser;

use crate::screen::Screen;
use crate::story::{Pacing, Story};

/// Moves a service from v1 to v2 under load and shows what its users notice: nothing.
#[derive(Debug, Parser)]
struct Flags {
    /// Shorter steps: at most 30 seconds
    #[arg(long)]
    fast: bool,
}

fn main() -> ExitCode {
    let pacing = if Flags::parse().fast { Pacing::FAST } else { Pacing::CALM };
    let screen = Screen::new();
    let result = watch_interrupt().and_then(|interrupted| {
        let verdict = Story::start(pacing, &screen, interrupted)?.tell()?;
        screen.close();
        Ok(verdict)
    });
    match result {
        Ok(verdict) => {
            println!("{verdict}");
            if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            screen.close();
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes true at the first Ctrl-C or SIGTERM. The story ends itself then, so that its processes
/// and its directory go.
fn watch_interrupt() -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = Arc::clone(&interrupted);
    let mut term = {
        let _guard = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?
    };
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = term.recv() => {}
            }
        });
        seen.store(true, Ordering::Release);
    })?;
    Ok(interrupted)
}
