//! `segue diff`

use std::path::PathBuf;

use segue_proto::admin::v1::{ApplyRequest, Change, change};
use similar::TextDiff;

use crate::error::CliError;
use crate::session::{Session, author};
use crate::{DONE, FAILED, files, name};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// File, directory, or `-` for standard input; may be given several times
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

pub async fn run(args: Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    let request = ApplyRequest {
        files: files::read(&args.files)?,
        dry_run: true,
        author: author(),
        ..ApplyRequest::default()
    };
    let response = session.config().await?.apply(request).await?.into_inner();
    let mut code = DONE;
    for change in response.changes {
        if change.kind() != change::Kind::Unchanged {
            session.output.print(&text(&change))?;
            code = FAILED;
        }
    }
    Ok(code)
}

fn text(change: &Change) -> String {
    let name = name::short(&change.key.clone().unwrap_or_default());
    let (old, new) = (format!("stored/{name}"), format!("given/{name}"));
    TextDiff::from_lines(change.before.as_str(), change.after.as_str())
        .unified_diff()
        .header(&old, &new)
        .to_string()
}
