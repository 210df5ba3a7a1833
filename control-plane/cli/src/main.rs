//! The process around [`segue_cli::run`].

use std::process::ExitCode;

use segue_cli::{FAILED, Output, run};

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime does not start: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let output = Output::of_process(&mut out, &mut err);
    ExitCode::from(runtime.block_on(run(std::env::args_os(), output)))
}
