//! `segue history`

use segue_proto::admin::v1::{ListRevisionsRequest, RevisionInfo};
use serde_json::{Value, json};

use super::{changes, rows};
use crate::error::CliError;
use crate::format::Format;
use crate::session::Session;
use crate::{DONE, name};

/// Changes that a line names; more are counted.
const MOST_NAMED: usize = 3;
/// Revisions that one call of the server gives.
const PAGE: u32 = 500;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show this many revisions
    #[arg(short = 'l', long, value_name = "COUNT", default_value = "20")]
    pub limit: u32,
    /// How they are printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

pub async fn run(args: Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    let mut client = session.config().await?;
    let (mut revisions, mut before_revision, mut left) = (Vec::new(), 0, args.limit);
    let oldest = loop {
        let request = ListRevisionsRequest { page_size: left.clamp(1, PAGE), before_revision };
        let page = client.list_revisions(request).await?.into_inner();
        let got = u32::try_from(page.revisions.len()).unwrap_or(u32::MAX);
        before_revision = page.revisions.last().map_or(0, |revision| revision.revision);
        left = left.saturating_sub(got);
        revisions.extend(page.revisions);
        if left == 0 || got == 0 || before_revision <= 1 {
            break page.oldest_revision;
        }
    };
    if matches!(args.output, Format::Json | Format::Yaml) {
        let revisions: Vec<Value> = revisions.iter().map(value).collect();
        let value = json!({"oldestRevision": oldest, "revisions": revisions});
        session.output.value(args.output, &value)?;
    } else if revisions.is_empty() {
        session.output.note("Nothing was committed yet.");
    } else {
        let rows = revisions.iter().map(|revision| row(revision, args.output)).collect();
        let header = ["REVISION", "COMMITTED", "AUTHOR", "CHANGES", "MESSAGE"];
        session.output.table(Some(&header), rows)?;
    }
    Ok(DONE)
}

fn row(revision: &RevisionInfo, output: Format) -> Vec<String> {
    let most = if output == Format::Wide { usize::MAX } else { MOST_NAMED };
    let mut told: Vec<String> = revision
        .changes
        .iter()
        .take(most)
        .map(|change| {
            let key = change.key.clone().unwrap_or_default();
            format!("{} {}", name::short(&key), name::verb(change.kind()))
        })
        .collect();
    if revision.changes.len() > most {
        told.push(format!("and {} more", revision.changes.len() - most));
    }
    vec![
        revision.revision.to_string(),
        rows::local(revision.committed_at.as_ref()),
        rows::none(revision.author.clone()),
        told.join(", "),
        revision.message.clone(),
    ]
}

fn value(revision: &RevisionInfo) -> Value {
    json!({
        "revision": revision.revision,
        "committedAt": rows::rfc3339(revision.committed_at.as_ref()),
        "author": revision.author,
        "message": revision.message,
        "changes": revision.changes.iter().map(changes::json).collect::<Vec<Value>>(),
    })
}
