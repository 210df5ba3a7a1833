//! `segue completion`

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::DONE;
use crate::args::Cli;
use crate::error::CliError;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

pub fn run(args: &Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "segue", &mut script);
    session.output.print(&String::from_utf8_lossy(&script))?;
    Ok(DONE)
}
