//! What a change did, as `apply`, `delete` and `undo` tell it.

use std::time::Duration;

use clap::Args;
use segue_proto::admin::v1::Change;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::format::Format;
use crate::session::Session;
use crate::{DONE, duration, name, progress};

/// Arguments that every verb that changes something takes.
#[derive(Debug, Args)]
pub struct Terms {
    /// Check and show what would change; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub message: String,
    /// Change only on top of this revision
    #[arg(long, value_name = "REVISION", default_value = "0", hide_default_value = true)]
    pub expected_revision: u64,
    /// Wait until every connected sidecar runs on the change, at most this long: 30s where only
    /// `--wait` is said, at most 1h
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "30s",
        value_parser = duration::parse_wait
    )]
    pub wait: Option<Duration>,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Prints the result, and waits where that was asked.
pub async fn conclude(
    session: &mut Session<'_>,
    terms: &Terms,
    revision: u64,
    changes: &[Change],
) -> Result<u8, CliError> {
    let for_people = matches!(terms.output, Format::Table | Format::Wide);
    if for_people {
        if changes.is_empty() {
            session.output.note("Nothing changes.");
        }
        for change in changes {
            let key = change.key.clone().unwrap_or_default();
            let dry = if terms.dry_run { " (dry run)" } else { "" };
            let verb = name::verb(change.kind());
            session.output.line(&format!("{} {verb}{dry}", name::short(&key)))?;
        }
    }
    let waited = match terms.wait.filter(|_| !terms.dry_run) {
        Some(timeout) => Some(progress::wait(session, revision, timeout).await),
        None => None,
    };
    if for_people {
        match &waited {
            Some(Ok(progress)) => session.output.line(&progress::told(progress))?,
            None if !terms.dry_run => session.output.line(&format!("revision {revision}"))?,
            _ => {}
        }
    } else {
        let mut value = json!({
            "revision": revision,
            "dryRun": terms.dry_run,
            "changes": changes.iter().map(json).collect::<Vec<Value>>(),
        });
        if let Some(Ok(progress)) = &waited {
            value["sidecars"] = json!({"total": progress.total, "activated": progress.activated});
        }
        session.output.value(terms.output, &value)?;
    }
    waited.transpose()?;
    Ok(DONE)
}

pub fn json(change: &Change) -> Value {
    let key = change.key.clone().unwrap_or_default();
    json!({
        "kind": key.kind,
        "namespace": key.namespace,
        "name": key.name,
        "change": name::verb(change.kind()),
    })
}
