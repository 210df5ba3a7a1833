//! `segue delete`

use std::path::PathBuf;

use segue_control_plane_core::config::{self, SourceText};
use segue_proto::admin::v1::DeleteRequest;
use segue_proto::config::v1::ResourceKey;

use super::changes::{Terms, conclude};
use crate::error::CliError;
use crate::name::Namespace;
use crate::session::{Session, author};
use crate::{files, name};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// `KIND NAME…` or `KIND/NAME…`
    #[arg(value_name = "RESOURCE", required_unless_present = "files")]
    pub names: Vec<String>,
    /// Delete the resources of this file or directory, or of `-`, standard input
    #[arg(short, long = "file", value_name = "FILE", conflicts_with = "names")]
    pub files: Vec<PathBuf>,
    /// A resource that does not exist is no failure
    #[arg(long)]
    pub ignore_not_found: bool,
    #[command(flatten)]
    pub namespace: Namespace,
    #[command(flatten)]
    pub terms: Terms,
}

pub async fn run(args: Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    let keys = if args.files.is_empty() {
        name::keys(&args.names, &args.namespace.namespace)?
    } else {
        of_files(&args.files)?
    };
    let request = DeleteRequest {
        keys,
        expected_revision: args.terms.expected_revision,
        dry_run: args.terms.dry_run,
        message: args.terms.message.clone(),
        author: author(),
        ignore_not_found: args.ignore_not_found,
    };
    let response = session.config().await?.delete(request).await?.into_inner();
    conclude(session, &args.terms, response.revision, &response.changes).await
}

/// The names in the files; the rest of their content does not matter, but must be readable.
fn of_files(files: &[PathBuf]) -> Result<Vec<ResourceKey>, CliError> {
    let texts: Vec<SourceText> = files::read(files)?
        .into_iter()
        .map(|file| SourceText { name: file.name, content: file.content })
        .collect();
    let parsed = config::parse(&texts).map_err(|faults| CliError::NotHeld(faults.to_string()))?;
    Ok(parsed
        .iter()
        .map(|parsed| {
            let key = config::key(&parsed.resource);
            ResourceKey { kind: key.kind.to_string(), namespace: key.namespace, name: key.name }
        })
        .collect())
}
