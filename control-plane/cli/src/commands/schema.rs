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
    /// The reference for people, all kinds as Markdown, instead of JSON Schema for editors
    #[arg(long, conflicts_with = "kind")]
    pub markdown: bool,
}

pub fn run(args: &Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    if args.markdown {
        session.output.print(&config::reference())?;
        return Ok(DONE);
    }
    let kind = args.kind.as_deref().map(name::kind).transpose()?;
    session.output.value(Format::Json, &config::schema(kind))?;
    Ok(DONE)
}
