//! `segue completion`

use clap_complete::Shell;

use crate::DONE;
use crate::error::CliError;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `program` is the whole command line that is completed.
pub fn run(
    args: &Args,
    mut program: clap::Command,
    session: &mut Session<'_>,
) -> Result<u8, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "segue", &mut script);
    session.output.print(&String::from_utf8_lossy(&script))?;
    Ok(DONE)
}
