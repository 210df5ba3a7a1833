//! `segue apply`

use std::path::PathBuf;

use segue_proto::admin::v1::ApplyRequest;

use super::changes::{Terms, conclude};
use crate::error::CliError;
use crate::files;
use crate::session::{Session, author};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// File, directory, or `-` for standard input; may be given several times
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub terms: Terms,
}

pub async fn run(args: Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    let request = ApplyRequest {
        files: files::read(&args.files)?,
        resources: Vec::new(),
        expected_revision: args.terms.expected_revision,
        dry_run: args.terms.dry_run,
        message: args.terms.message.clone(),
        author: author(),
    };
    let response = session.config().await?.apply(request).await?.into_inner();
    for warning in &response.warnings {
        session.output.note(&format!("Warning: {warning}"));
    }
    conclude(session, &args.terms, response.revision, &response.changes).await
}
