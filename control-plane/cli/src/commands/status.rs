//! `segue status`

use jiff::Timestamp;
use segue_proto::admin::v1::{ListSidecarsRequest, ListSidecarsResponse, Sidecar};
use serde_json::{Value, json};

use super::rows;
use crate::DONE;
use crate::error::CliError;
use crate::format::Format;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only sidecars of this service, `NAME` or `NAMESPACE/NAME`
    #[arg(long, value_name = "SERVICE", default_value = "", hide_default_value = true)]
    pub service: String,
    /// How they are printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

pub async fn run(args: Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    let request = ListSidecarsRequest { service: args.service };
    let status = session.status().await?.list_sidecars(request).await?.into_inner();
    if matches!(args.output, Format::Json | Format::Yaml) {
        session.output.value(args.output, &value(&status))?;
        return Ok(DONE);
    }
    session.output.line(&summary(&status))?;
    if status.sidecars.is_empty() {
        return Ok(DONE);
    }
    session.output.line("")?;
    let wide = args.output == Format::Wide;
    let mut header =
        vec!["NODE", "SERVICE", "VERSION", "STATE", "ACCEPTED", "ACTIVE", "REFUSES", "SINCE"];
    if wide {
        header.extend(["RELEASE", "ADDRESS", "REQUESTS", "FAILURES"]);
    }
    let now = Timestamp::now();
    let rows = status.sidecars.iter().map(|sidecar| row(sidecar, wide, now)).collect();
    session.output.table(Some(&header), rows)?;
    for line in refusals(&status) {
        session.output.line(&line)?;
    }
    Ok(DONE)
}

/// `revision 7: active on 3 of 3 sidecars`.
fn summary(status: &ListSidecarsResponse) -> String {
    let reporting =
        || status.sidecars.iter().filter(|sidecar| sidecar.connected && sidecar.reports);
    let total = reporting().count();
    let active =
        reporting().filter(|sidecar| sidecar.activated_revision >= status.revision).count();
    let revision = status.revision;
    if total == 0 {
        format!("revision {revision}: no sidecar is connected")
    } else {
        format!("revision {revision}: active on {active} of {total} sidecars")
    }
}

fn row(sidecar: &Sidecar, wide: bool, now: Timestamp) -> Vec<String> {
    let known = |revision: u64| match revision {
        0 => "-".to_owned(),
        revision => revision.to_string(),
    };
    let mut row = vec![
        sidecar.node_id.clone(),
        rows::none(sidecar.service.clone()),
        rows::none(sidecar.version.clone()),
        if sidecar.connected { "connected" } else { "gone" }.to_owned(),
        known(sidecar.accepted_revision),
        if sidecar.reports { known(sidecar.activated_revision) } else { "?".to_owned() },
        sidecar.rejections.len().to_string(),
        rows::age(sidecar.since.as_ref(), now),
    ];
    if wide {
        let requests: u64 = sidecar.traffic.iter().map(|count| count.requests).sum();
        let failures: u64 = sidecar.traffic.iter().map(|count| count.failures).sum();
        row.extend([
            sidecar.release.clone(),
            sidecar.address.clone(),
            requests.to_string(),
            failures.to_string(),
        ]);
    }
    row
}

fn refusals(status: &ListSidecarsResponse) -> Vec<String> {
    let refusals = status.sidecars.iter().flat_map(|sidecar| {
        sidecar.rejections.iter().map(|rejection| {
            let mut place = format!("{} {}", rejection.r#type, rejection.resource);
            if !rejection.field_path.is_empty() {
                place = format!("{place}: {}", rejection.field_path);
            }
            let (node, reason) = (&sidecar.node_id, &rejection.reason);
            match rejection.revision {
                0 => format!("{node} refuses {place}: {reason}"),
                revision => format!("{node} refuses {place} of revision {revision}: {reason}"),
            }
        })
    });
    refusals.collect()
}

fn value(status: &ListSidecarsResponse) -> Value {
    let sidecars: Vec<Value> = status.sidecars.iter().map(sidecar).collect();
    json!({"revision": status.revision, "sidecars": sidecars})
}

fn sidecar(sidecar: &Sidecar) -> Value {
    let rejections: Vec<Value> = sidecar
        .rejections
        .iter()
        .map(|rejection| {
            json!({
                "type": rejection.r#type,
                "resource": rejection.resource,
                "fieldPath": rejection.field_path,
                "reason": rejection.reason,
                "revision": rejection.revision,
            })
        })
        .collect();
    let traffic: Vec<Value> = sidecar
        .traffic
        .iter()
        .map(|count| {
            json!({
                "service": count.service,
                "version": count.version,
                "requests": count.requests,
                "failures": count.failures,
            })
        })
        .collect();
    json!({
        "nodeId": sidecar.node_id,
        "service": sidecar.service,
        "version": sidecar.version,
        "release": sidecar.release,
        "address": sidecar.address,
        "connected": sidecar.connected,
        "since": rows::rfc3339(sidecar.since.as_ref()),
        "reports": sidecar.reports,
        "acceptedRevision": sidecar.accepted_revision,
        "activatedRevision": sidecar.activated_revision,
        "rejections": rejections,
        "traffic": traffic,
    })
}
