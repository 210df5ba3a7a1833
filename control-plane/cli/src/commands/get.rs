//! `segue get`

use jiff::Timestamp;
use segue_control_plane_core::config::{self, Kind};
use segue_proto::admin::v1::{Condition, Entry, WatchRequest};
use serde_json::{Value, json};

use super::rows;
use crate::error::CliError;
use crate::format::Format;
use crate::name::Namespace;
use crate::session::Session;
use crate::{DONE, name};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind, such as `services` or `svc`; `KIND/NAME`; or `all`
    #[arg(value_name = "KIND")]
    pub kind: String,
    /// Name [default: all]
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    #[command(flatten)]
    pub namespace: Namespace,
    /// Resources of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// How they are printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    /// Go on with each change
    #[arg(short, long)]
    pub watch: bool,
}

/// What is asked for.
struct Asked {
    /// `None`: any kind.
    kind: Option<Kind>,
    /// Empty: any.
    name: String,
    /// Empty: any.
    namespace: String,
    output: Format,
}

pub async fn run(args: Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    let asked = Asked::read(&args)?;
    if args.watch {
        return watch(&asked, session).await;
    }
    let kind = asked.kind.map_or("", Kind::as_str);
    let (_, entries) = session.list(kind, &asked.namespace, &asked.name).await?;
    if entries.is_empty() && !asked.name.is_empty() {
        let kind = kind.to_ascii_lowercase();
        return Err(CliError::NotHeld(format!("{kind} {:?} not found", asked.name)));
    }
    match asked.output {
        Format::Table | Format::Wide if entries.is_empty() => {
            let place = match asked.namespace.as_str() {
                "" => "any namespace".to_owned(),
                namespace => format!("namespace {namespace}"),
            };
            session.output.note(&format!("No resources found in {place}."));
        }
        Format::Table | Format::Wide => {
            let header = asked.header();
            session.output.table(Some(&header), asked.rows(&entries))?;
        }
        Format::Yaml => session.output.print(&documents(&entries))?,
        Format::Json => session.output.value(Format::Json, &asked.json(&entries))?,
    }
    Ok(DONE)
}

async fn watch(asked: &Asked, session: &mut Session<'_>) -> Result<u8, CliError> {
    let request = WatchRequest {
        kind: asked.kind.map_or("", Kind::as_str).to_owned(),
        namespace: asked.namespace.clone(),
        name: asked.name.clone(),
    };
    let mut stream = session.config().await?.watch(request).await?.into_inner();
    let mut header = Some(asked.header());
    while let Some(change) = stream.message().await? {
        match asked.output {
            Format::Table | Format::Wide => {
                let mut rows = asked.rows(&change.upserted);
                rows.extend(
                    change.deleted.iter().map(|key| vec![name::short(key), "deleted".into()]),
                );
                session.output.table(header.take().as_deref(), rows)?;
            }
            Format::Yaml => {
                for entry in &change.upserted {
                    session.output.print(&format!("---\n{}", entry.yaml))?;
                }
                for key in &change.deleted {
                    session.output.print(&format!("--- # {} deleted\n", name::short(key)))?;
                }
            }
            Format::Json => {
                for entry in &change.upserted {
                    session.output.line(&json(entry).to_string())?;
                }
                for key in &change.deleted {
                    let (kind, namespace, name) = (&key.kind, &key.namespace, &key.name);
                    let deleted = json!({"kind": kind, "namespace": namespace, "name": name});
                    session.output.line(&json!({ "deleted": deleted }).to_string())?;
                }
            }
        }
    }
    Err(CliError::NotHeld("the control plane ended the watch".to_owned()))
}

impl Asked {
    fn read(args: &Args) -> Result<Self, CliError> {
        let namespace =
            if args.all_namespaces { String::new() } else { args.namespace.namespace.clone() };
        let (kind, name) = match (args.kind.split_once('/'), &args.name) {
            (Some((kind, name)), None) => (Some(name::kind(kind)?), name.to_owned()),
            (Some(_), Some(_)) => {
                return Err(CliError::Usage("either KIND NAME or KIND/NAME".to_owned()));
            }
            (None, name) if args.kind == "all" => (None, name.clone().unwrap_or_default()),
            (None, name) => (Some(name::kind(&args.kind)?), name.clone().unwrap_or_default()),
        };
        Ok(Self { kind, name, namespace, output: args.output })
    }

    fn wide(&self) -> bool {
        self.output == Format::Wide
    }

    fn header(&self) -> Vec<&'static str> {
        rows::header(self.kind, self.wide(), self.namespace.is_empty())
    }

    fn rows(&self, entries: &[Entry]) -> Vec<Vec<String>> {
        let now = Timestamp::now();
        let all = self.namespace.is_empty();
        entries.iter().map(|entry| rows::row(entry, self.kind, self.wide(), all, now)).collect()
    }

    /// One resource where one was named, else a list.
    fn json(&self, entries: &[Entry]) -> Value {
        match entries {
            [one] if !self.name.is_empty() && self.kind.is_some() => json(one),
            _ => json!({
                "apiVersion": segue_proto::API_VERSION,
                "kind": "List",
                "items": entries.iter().map(json).collect::<Vec<Value>>(),
            }),
        }
    }
}

/// The resource with its conditions as `status`, as Kubernetes has them.
fn json(entry: &Entry) -> Value {
    let mut value = entry.resource.as_ref().map_or(Value::Null, config::to_json);
    let condition = |condition: &Condition| {
        json!({
            "type": condition.r#type,
            "status": rows::status(condition),
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": condition.observed_generation,
        })
    };
    if let Some(resource) = value.as_object_mut().filter(|_| !entry.conditions.is_empty()) {
        let conditions: Vec<Value> = entry.conditions.iter().map(condition).collect();
        resource.insert("status".to_owned(), json!({ "conditions": conditions }));
    }
    value
}

/// The resources as one file that `apply` takes.
fn documents(entries: &[Entry]) -> String {
    entries.iter().map(|entry| entry.yaml.as_str()).collect::<Vec<_>>().join("---\n")
}
