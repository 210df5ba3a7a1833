//! `segue wait`

use std::time::Duration;

use crate::error::CliError;
use crate::session::Session;
use crate::{DONE, duration, progress};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The revision [default: the newest]
    #[arg(long, value_name = "REVISION", default_value = "0", hide_default_value = true)]
    pub revision: u64,
    /// How long, at most 1h
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse_wait)]
    pub timeout: Duration,
}

pub async fn run(args: Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    let progress = progress::wait(session, args.revision, args.timeout).await?;
    session.output.line(&progress::told(&progress))?;
    Ok(DONE)
}
