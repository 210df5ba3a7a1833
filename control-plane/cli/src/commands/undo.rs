//! `segue undo`

use segue_proto::admin::v1::UndoRequest;

use super::changes::{Terms, conclude};
use crate::error::CliError;
use crate::session::{Session, author};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The revision whose configuration shall hold again [default: one
    /// change further back with each undo]
    #[arg(long = "to", value_name = "REVISION", default_value = "0", hide_default_value = true)]
    pub to_revision: u64,
    #[command(flatten)]
    pub terms: Terms,
}

pub async fn run(args: Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    let request = UndoRequest {
        to_revision: args.to_revision,
        expected_revision: args.terms.expected_revision,
        dry_run: args.terms.dry_run,
        message: args.terms.message.clone(),
        author: author(),
    };
    let response = session.config().await?.undo(request).await?.into_inner();
    conclude(session, &args.terms, response.revision, &response.changes).await
}
