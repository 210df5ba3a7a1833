//! `segue certs`

use std::time::Duration;

use segue_proto::admin::v1 as api;
use segue_proto::admin::v1::RotationStep;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{counted, rows};
use crate::error::CliError;
use crate::format::Format;
use crate::session::Session;
use crate::{DONE, duration};

/// Between looks at a rotation.
const LOOK: Duration = Duration::from_secs(1);
/// Instances that are named where people look.
const MOST_NAMED: usize = 5;

#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Show the roots of the mesh, who holds certificates, and how far a rotation is
    Status(Status),
    /// Replace the root of the mesh: distribute a new one, wait until all believe it, issue from it,
    /// wait until all have new certificates, drop the old one
    RotateRoot(RotateRoot),
}

#[derive(Debug, clap::Args)]
pub struct Status {
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, clap::Args)]
pub struct RotateRoot {
    /// Do not wait for instances that are not connected: those that come back must join anew
    #[arg(long)]
    pub without_absent: bool,
    /// Begin it, and do not wait for its end
    #[arg(long)]
    pub no_wait: bool,
    /// Let go of a new root that signs nothing yet
    #[arg(long, conflicts_with_all = ["without_absent", "no_wait"])]
    pub abort: bool,
    /// How long its end is waited for; it goes on in any case
    #[arg(long, value_name = "DURATION", default_value = "48h", value_parser = duration::parse)]
    pub timeout: Duration,
}

pub async fn run(args: Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    match args {
        Args::Status(args) => status(&args, session).await,
        Args::RotateRoot(args) => rotate_root(&args, session).await,
    }
}

async fn status(args: &Status, session: &mut Session<'_>) -> Result<u8, CliError> {
    let authority = authority(session).await?;
    if matches!(args.output, Format::Json | Format::Yaml) {
        session.output.value(args.output, &value(&authority))?;
        return Ok(DONE);
    }
    let holders = match &authority.first_expires_at {
        Some(first) => {
            let first = rows::local(Some(first));
            format!("{}, the first until {first}", counted(authority.holders.into(), "instance"))
        }
        None => "nobody".to_owned(),
    };
    let mut lines = vec![
        vec!["Trust domain".to_owned(), authority.trust_domain.clone()],
        vec!["Certificates".to_owned(), holders],
        vec!["Rotation".to_owned(), step(&authority)],
    ];
    for (i, root) in authority.roots.iter().enumerate() {
        let role = if i == 0 { "signs" } else { "is believed" };
        let until = rows::local(root.expires_at.as_ref());
        let short = root.fingerprint.get(..16).unwrap_or(&root.fingerprint);
        lines.push(vec!["Root".to_owned(), format!("{short} {role}, until {until}")]);
    }
    if authority.is_own {
        lines.push(vec![String::new(), "your own (--ca-cert), replaced by hand".to_owned()]);
    }
    session.output.table(None, lines)?;
    if authority.waiting_total > 0 {
        session.output.line("")?;
        let header = ["WAITING FOR", "SERVICE", "CONNECTED", "UNTIL AT MOST"];
        let waiting = authority.waiting.iter().map(row).collect();
        session.output.table(Some(&header), waiting)?;
    }
    Ok(DONE)
}

async fn rotate_root(args: &RotateRoot, session: &mut Session<'_>) -> Result<u8, CliError> {
    let mut client = session.certificates().await?;
    if args.abort {
        client.abort_rotation(api::AbortRotationRequest {}).await?;
        session.output.line("the new root is gone; nothing was signed by it")?;
        return Ok(DONE);
    }
    let request = api::RotateRootRequest { without_absent: args.without_absent };
    client.rotate_root(request).await?;
    if args.no_wait {
        session.output.line("the rotation goes on by itself: see `segue certs status`")?;
        return Ok(DONE);
    }
    let until = Instant::now() + args.timeout;
    let mut told = String::new();
    loop {
        let authority = authority(session).await?;
        let line = format!("{}{}", step(&authority), waiting(&authority));
        if line != told {
            session.output.line(&line)?;
            told = line;
        }
        if authority.step() == RotationStep::Steady {
            return Ok(DONE);
        }
        if Instant::now() >= until {
            return Err(CliError::NotHeld(format!(
                "the rotation is not over: it goes on by itself, {}",
                step(&authority)
            )));
        }
        sleep(LOOK).await;
    }
}

async fn authority(session: &mut Session<'_>) -> Result<api::GetAuthorityResponse, CliError> {
    let answer = session.certificates().await?.get_authority(api::GetAuthorityRequest {}).await?;
    Ok(answer.into_inner())
}

fn step(authority: &api::GetAuthorityResponse) -> String {
    match authority.step() {
        RotationStep::Unspecified => "of a kind that this command does not know".to_owned(),
        RotationStep::Steady => "none: one root signs and is believed".to_owned(),
        RotationStep::Distribute => {
            "1 of 3, distribute: a new root is told to all, and signs nothing".to_owned()
        }
        RotationStep::Issue => {
            "2 of 3, issue: the new root signs, and all ask for new certificates".to_owned()
        }
        RotationStep::Drop => "3 of 3, drop: the old root is believed no more".to_owned(),
    }
}

/// Who is waited for, in one line.
fn waiting(authority: &api::GetAuthorityResponse) -> String {
    if authority.waiting_total == 0 {
        return String::new();
    }
    let mut names: Vec<String> = authority.waiting.iter().take(MOST_NAMED).map(name).collect();
    let rest = usize::try_from(authority.waiting_total).unwrap_or(usize::MAX);
    let rest = rest.saturating_sub(names.len());
    if rest > 0 {
        names.push(format!("{rest} more"));
    }
    format!("; waiting for {}", names.join(", "))
}

fn name(waited: &api::WaitedFor) -> String {
    let (service, node) = (&waited.service, &waited.node_id);
    match &waited.until {
        Some(until) if !waited.connected => {
            format!("{service} {node} (away, at most until {})", rows::local(Some(until)))
        }
        _ => format!("{service} {node}"),
    }
}

fn row(waited: &api::WaitedFor) -> Vec<String> {
    vec![
        waited.node_id.clone(),
        waited.service.clone(),
        if waited.connected { "yes" } else { "no" }.to_owned(),
        rows::none(waited.until.as_ref().map(|at| rows::local(Some(at))).unwrap_or_default()),
    ]
}

fn value(authority: &api::GetAuthorityResponse) -> Value {
    let roots: Vec<Value> = authority
        .roots
        .iter()
        .enumerate()
        .map(|(i, root)| {
            json!({
                "fingerprint": root.fingerprint,
                "signs": i == 0,
                "expiresAt": rows::rfc3339(root.expires_at.as_ref()),
                "pem": root.pem,
            })
        })
        .collect();
    let waiting: Vec<Value> = authority
        .waiting
        .iter()
        .map(|waited| {
            json!({
                "nodeId": waited.node_id,
                "service": waited.service,
                "connected": waited.connected,
                "until": rows::rfc3339(waited.until.as_ref()),
            })
        })
        .collect();
    let step = authority.step().as_str_name().trim_start_matches("ROTATION_STEP_").to_lowercase();
    json!({
        "trustDomain": authority.trust_domain,
        "roots": roots,
        "signerExpiresAt": rows::rfc3339(authority.signer_expires_at.as_ref()),
        "step": step,
        "stepSince": rows::rfc3339(authority.step_since.as_ref()),
        "waiting": waiting,
        "waitingTotal": authority.waiting_total,
        "holders": authority.holders,
        "firstExpiresAt": rows::rfc3339(authority.first_expires_at.as_ref()),
        "withoutAbsent": authority.without_absent,
        "isOwn": authority.is_own,
    })
}
