//! `segue describe`

use std::fmt::Write as _;

use jiff::Timestamp;
use segue_control_plane_core::config;
use segue_proto::admin::v1::{Condition, Entry, ListRevisionsRequest, RevisionInfo};
use segue_proto::config::v1::ResourceKey;
use serde_json::Value;

use super::rows;
use crate::error::CliError;
use crate::name::Namespace;
use crate::session::Session;
use crate::{DONE, name};

/// Revisions that are looked through for the resource's own history.
const LOOK_BACK: u32 = 500;
/// Lines of it that are shown.
const MOST_HISTORY: usize = 5;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// `KIND NAME` or `KIND/NAME`
    #[arg(value_name = "RESOURCE", required = true)]
    pub names: Vec<String>,
    #[command(flatten)]
    pub namespace: Namespace,
}

pub async fn run(args: Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    for (i, key) in name::keys(&args.names, &args.namespace.namespace)?.iter().enumerate() {
        if i > 0 {
            session.output.line("")?;
        }
        let text = describe(key, session).await?;
        session.output.print(&text)?;
    }
    Ok(DONE)
}

async fn describe(key: &ResourceKey, session: &mut Session<'_>) -> Result<String, CliError> {
    let (_, all) = session.list("", "", "").await?;
    let entry = all
        .iter()
        .find(|entry| is(entry, key))
        .ok_or_else(|| CliError::NotHeld(format!("{} not found", name::short(key))))?;
    let mut text = head(entry, key);
    text.push_str(&section("Conditions", entry.conditions.iter().map(condition).collect()));
    if key.kind == "Service" {
        text.push_str(&section("Referred to by", related(&all, key)));
        text.push_str(&section("Traffic", traffic(key, session).await?));
    }
    text.push_str(&section("History", history(key, session).await?));
    Ok(text)
}

fn is(entry: &Entry, key: &ResourceKey) -> bool {
    let found = entry.resource.as_ref().map(config::key);
    found.is_some_and(|found| {
        found.kind.as_str() == key.kind
            && found.namespace == key.namespace
            && found.name == key.name
    })
}

fn head(entry: &Entry, key: &ResourceKey) -> String {
    let resource = entry.resource.clone().unwrap_or_default();
    let now = Timestamp::now();
    let moment = |at: Option<&prost_types::Timestamp>| {
        format!("{} ({} ago)", rows::local(at), rows::age(at, now))
    };
    let lines = [
        ("Name", key.name.clone()),
        ("Namespace", key.namespace.clone()),
        ("Kind", key.kind.clone()),
        ("Labels", rows::labels(&resource)),
        ("Revision", entry.revision.to_string()),
        ("Created", moment(entry.created_at.as_ref())),
        ("Changed", moment(entry.changed_at.as_ref())),
    ];
    let mut text = String::new();
    for (word, value) in lines {
        let _ = writeln!(text, "{:<12}{value}", format!("{word}:"));
    }
    // The spec is what remains of the YAML after its head.
    if let Some((_, spec)) = entry.yaml.split_once("\nspec:\n") {
        text.push_str("Spec:\n");
        text.push_str(spec.trim_end());
        text.push('\n');
    }
    text
}

/// `Programmed: False (Pending): 3 of 5 sidecars run on revision 12`.
fn condition(of: &Condition) -> String {
    format!("{}: {} ({}): {}", of.r#type, rows::status(of), of.reason, of.message)
}

/// Resources that are about the service.
fn related(all: &[Entry], service: &ResourceKey) -> Vec<String> {
    all.iter()
        .filter_map(|entry| {
            let resource = entry.resource.as_ref()?;
            let key = config::key(resource);
            let json = config::to_json(resource);
            let target = json.pointer("/spec/targetRef")?;
            let said = |field: &str| target.get(field).and_then(Value::as_str);
            let matches = said("name") == Some(service.name.as_str())
                && said("namespace").unwrap_or(&key.namespace) == service.namespace;
            matches.then(|| format!("{}/{}", key.kind.as_str().to_ascii_lowercase(), key.name))
        })
        .collect()
}

/// Requests to each version, over all sidecars and the clients that report their load.
async fn traffic(key: &ResourceKey, session: &mut Session<'_>) -> Result<Vec<String>, CliError> {
    let sidecars = session.sidecars("").await?.sidecars;
    let service = format!("{}/{}", key.namespace, key.name);
    let mut sums = std::collections::BTreeMap::<String, [u64; 4]>::new();
    for count in sidecars.into_iter().flat_map(|sidecar| sidecar.traffic) {
        if count.service == service {
            let sum = sums.entry(count.version).or_default();
            let counts = [count.requests, count.failures, count.in_flight, count.dropped];
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += count;
            }
        }
    }
    let line = |(version, [requests, failures, in_flight, dropped]): (String, [u64; 4])| {
        let mut line = format!("{version}: {requests} requests, {failures} failed");
        for (count, word) in [(in_flight, "in flight"), (dropped, "dropped")] {
            if count > 0 {
                let _ = write!(line, ", {count} {word}");
            }
        }
        line
    };
    Ok(sums.into_iter().map(line).collect())
}

async fn history(key: &ResourceKey, session: &mut Session<'_>) -> Result<Vec<String>, CliError> {
    let request = ListRevisionsRequest { page_size: LOOK_BACK, before_revision: 0 };
    let revisions = session.config().await?.list_revisions(request).await?.into_inner().revisions;
    let line = |revision: &RevisionInfo| {
        let change = revision.changes.iter().find(|change| change.key.as_ref() == Some(key))?;
        let verb = name::verb(change.kind());
        let at = rows::local(revision.committed_at.as_ref());
        let mut line = format!("revision {} {at} {verb}", revision.revision);
        for word in [&revision.author, &revision.message] {
            if !word.is_empty() {
                let _ = write!(line, " {word}");
            }
        }
        Some(line)
    };
    Ok(revisions.iter().filter_map(line).take(MOST_HISTORY).collect())
}

fn section(title: &str, lines: Vec<String>) -> String {
    if lines.is_empty() {
        return format!("{title}: <none>\n");
    }
    let mut text = format!("{title}:\n");
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
    text
}
