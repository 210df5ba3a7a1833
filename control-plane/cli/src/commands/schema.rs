//! `segue schema`

use segue_control_plane_core::config;

use crate::error::CliError;
use crate::format::Format;
use crate::session::Session;
use crate::{DONE, name};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of resource [default: any]
    #[arg(value_name = "KIND")]
    pub kind: Option<String>,
}

pub fn run(args: &Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    let kind = args.kind.as_deref().map(name::kind).transpose()?;
    session.output.value(Format::Json, &config::schema(kind))?;
    Ok(DONE)
}
