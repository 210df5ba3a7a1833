//! `segue`, the command line: kubectl's habits for a mesh.

mod archive;
pub mod args;
mod client;
mod commands;
mod duration;
mod error;
mod files;
mod format;
mod identity;
mod name;
mod output;
mod progress;
mod session;

use std::ffi::OsString;

use clap::{CommandFactory as _, Parser as _};

use crate::args::{Cli, Command};
pub use crate::error::CliError;
pub use crate::output::Output;
use crate::session::Session;

/// What was asked holds.
pub const DONE: u8 = 0;
/// What was asked does not hold; for `diff`: there are differences.
pub const FAILED: u8 = 1;
/// What was asked is not understood; for `diff`: anything went wrong.
pub const USAGE: u8 = 2;

/// Does what `args` ask (the first is the program's name), and gives the exit code.
pub async fn run(args: impl IntoIterator<Item = OsString>, mut output: Output<'_>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &mut output),
    };
    let is_diff = matches!(cli.command, Command::Diff(_));
    let mut session = Session::new(cli.connection, output);
    match dispatch(cli.command, &mut session).await {
        Ok(code) => code,
        Err(error) => {
            session.output.complain(&error);
            // 1 says that there are differences.
            if is_diff { USAGE } else { error.exit_code() }
        }
    }
}

async fn dispatch(command: Command, session: &mut Session<'_>) -> Result<u8, CliError> {
    use crate::commands::{
        apply, backup, certs, completion, delete, describe, diff, get, history, restore, schema,
        status, token, undo, wait,
    };
    match command {
        Command::Apply(args) => apply::run(args, session).await,
        Command::Diff(args) => diff::run(args, session).await,
        Command::Get(args) => get::run(args, session).await,
        Command::Describe(args) => describe::run(args, session).await,
        Command::Delete(args) => delete::run(args, session).await,
        Command::History(args) => history::run(args, session).await,
        Command::Undo(args) => undo::run(args, session).await,
        Command::Status(args) => status::run(args, session).await,
        Command::Wait(args) => wait::run(args, session).await,
        Command::Token(args) => token::run(args, session).await,
        Command::Certs(args) => certs::run(args, session).await,
        Command::Backup(args) => backup::run(args, session).await,
        Command::Restore(args) => restore::run(args, session).await,
        Command::Schema(args) => schema::run(&args, session),
        Command::Completion(args) => completion::run(&args, Cli::command(), session),
    }
}

/// `--help` and `--version` come this way too, and are no failure.
fn usage(error: &clap::Error, output: &mut Output<'_>) -> u8 {
    let text =
        if output.is_terminal() { error.render().ansi().to_string() } else { error.to_string() };
    if error.use_stderr() {
        output.note(text.trim_end());
        USAGE
    } else {
        // A reader that closed the pipe has read enough of a help.
        let _ = output.print(&text);
        DONE
    }
}
