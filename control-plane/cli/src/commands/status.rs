//! `segue status`

use std::fmt::Write as _;

use jiff::Timestamp;
use segue_proto::admin::v1::{ListSidecarsResponse, OtherControlPlane, Sidecar, VersionTraffic};
use serde_json::{Value, json};

use super::rows;
use crate::DONE;
use crate::error::CliError;
use crate::format::Format;
use crate::session::Session;

/// How long a control plane is young: sidecars may still be on their way back to it.
const YOUNG_SECONDS: i64 = 60;

/// What the columns say, and what the list cannot know.
const HELP: &str = "\
STATE is `ok` where the sidecar runs on the newest revision; `behind 3s` while that is on its way;
`stale 2m` where it has been for longer than a push takes (15 s unless the control plane is told
otherwise); `rejecting` where it refuses a resource, whose last good version serves on; `gone 5m`
where it is not connected. Other xDS clients (Envoy, gRPC) tell what they accepted, not what their
requests run on: ACTIVE is `?` there, and STATE speaks of ACCEPTED.

The list is that of one control plane. Where several share a store, the sidecars of the others are
counted, and each of them lists its own: ask it with --server. `segue wait` and `apply --wait` wait
for those of all.

A sidecar that is gone is listed for an hour. The list begins anew when the control plane starts: a
sidecar that was connected before and has not come back is not in it.";

#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Only sidecars of this service, `NAME` or `NAMESPACE/NAME`
    #[arg(long, value_name = "SERVICE", default_value = "", hide_default_value = true)]
    pub service: String,
    /// How they are printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

pub async fn run(args: Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    let status = session.sidecars(&args.service).await?;
    if matches!(args.output, Format::Json | Format::Yaml) {
        session.output.value(args.output, &value(&status))?;
        return Ok(DONE);
    }
    session.output.line(&summary(&status))?;
    for other in &status.others {
        session.output.line(&elsewhere(other))?;
    }
    if let Some(note) = young(&status, Timestamp::now()) {
        session.output.note(&note);
    }
    if status.sidecars.is_empty() {
        return Ok(DONE);
    }
    session.output.line("")?;
    let wide = args.output == Format::Wide;
    let mut header =
        vec!["NODE", "SERVICE", "VERSION", "STATE", "ACCEPTED", "ACTIVE", "REFUSES", "SINCE"];
    if wide {
        header.extend([
            "RECEIVED",
            "RELEASE",
            "ADDRESS",
            "REQUESTS",
            "FAILURES",
            "IN FLIGHT",
            "DROPPED",
        ]);
    }
    let now = Timestamp::now();
    let rows = status.sidecars.iter().map(|sidecar| row(sidecar, wide, now)).collect();
    session.output.table(Some(&header), rows)?;
    for line in refusals(&status) {
        session.output.line(&line)?;
    }
    Ok(DONE)
}

/// `revision 7: active on 3 of 5 sidecars, 1 stale, 1 rejecting, 2 gone`.
fn summary(status: &ListSidecarsResponse) -> String {
    let count = |holds: &dyn Fn(&Sidecar) -> bool| {
        status.sidecars.iter().filter(|sidecar| holds(sidecar)).count()
    };
    let total = count(&|sidecar| sidecar.connected && sidecar.reports);
    let active = count(&|sidecar| {
        sidecar.connected && sidecar.reports && sidecar.activated_revision >= status.revision
    });
    let revision = status.revision;
    let mut text = match (total, status.others.is_empty()) {
        (0, true) => format!("revision {revision}: no sidecar is connected"),
        (0, false) => format!("revision {revision}: no sidecar is connected to this control plane"),
        (_, true) => format!("revision {revision}: active on {active} of {total} sidecars"),
        (_, false) => {
            format!(
                "revision {revision}: active on {active} of {total} sidecars of this control plane"
            )
        }
    };
    let states = [State::Stale, State::Rejecting, State::Gone];
    let counted = states.map(|state| (count(&|sidecar| State::of(sidecar) == state), state.word()));
    let clients = count(&|sidecar| sidecar.connected && !sidecar.reports);
    for (count, word) in counted.into_iter().chain([(clients, "other xDS clients")]) {
        if count > 0 {
            let _ = write!(text, ", {count} {word}");
        }
    }
    text
}

/// `elsewhere: active on 5 of 6 sidecars of 10.0.0.2:18001, 2 other xDS clients`.
fn elsewhere(other: &OtherControlPlane) -> String {
    let OtherControlPlane { name, sidecars, activated, clients, .. } = other;
    let mut text = format!("elsewhere: active on {activated} of {sidecars} sidecars of {name}");
    if *clients > 0 {
        let _ = write!(text, ", {clients} other xDS clients");
    }
    text
}

/// What the list cannot know yet.
fn young(status: &ListSidecarsResponse, now: Timestamp) -> Option<String> {
    let since = status.known_since.as_ref()?;
    let seconds = now.as_second() - since.seconds;
    (0..YOUNG_SECONDS).contains(&seconds).then(|| {
        format!(
            "the control plane started {seconds}s ago: sidecars that have not come back yet are \
             not listed"
        )
    })
}

/// How a node is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    Behind,
    Stale,
    Rejecting,
    Gone,
}

impl State {
    fn of(sidecar: &Sidecar) -> Self {
        if !sidecar.connected {
            Self::Gone
        } else if !sidecar.rejections.is_empty() {
            Self::Rejecting
        } else if sidecar.stale {
            Self::Stale
        } else if sidecar.behind_for.is_some() {
            Self::Behind
        } else {
            Self::Ok
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Behind => "behind",
            Self::Stale => "stale",
            Self::Rejecting => "rejecting",
            Self::Gone => "gone",
        }
    }

    /// The word and its age: `stale 2m`.
    fn told(self, sidecar: &Sidecar, now: Timestamp) -> String {
        let word = self.word();
        match (self, &sidecar.behind_for) {
            (Self::Gone, _) => format!("{word} {}", rows::age(sidecar.since.as_ref(), now)),
            (Self::Behind | Self::Stale, Some(behind)) => {
                format!("{word} {}", rows::seconds(behind.seconds))
            }
            _ => word.to_owned(),
        }
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
        State::of(sidecar).told(sidecar, now),
        known(sidecar.accepted_revision),
        if sidecar.reports { known(sidecar.activated_revision) } else { "?".to_owned() },
        sidecar.rejections.len().to_string(),
        rows::age(sidecar.since.as_ref(), now),
    ];
    if wide {
        let sum = |count: fn(&VersionTraffic) -> u64| {
            sidecar.traffic.iter().map(count).sum::<u64>().to_string()
        };
        row.extend([
            known(sidecar.received_revision),
            sidecar.release.clone(),
            sidecar.address.clone(),
            sum(|count| count.requests),
            sum(|count| count.failures),
            sum(|count| count.in_flight),
            sum(|count| count.dropped),
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
    let other = |other: &OtherControlPlane| {
        json!({
            "name": other.name,
            "sidecars": other.sidecars,
            "activated": other.activated,
            "clients": other.clients,
            "publishedRevision": other.published_revision,
        })
    };
    json!({
        "revision": status.revision,
        "knownSince": rows::rfc3339(status.known_since.as_ref()),
        "sidecars": sidecars,
        "otherControlPlanes": status.others.iter().map(other).collect::<Vec<Value>>(),
    })
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
                "inFlight": count.in_flight,
                "dropped": count.dropped,
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
        "state": State::of(sidecar).word(),
        "stale": sidecar.stale,
        "behindSeconds": sidecar.behind_for.as_ref().map(|behind| behind.seconds),
        "since": rows::rfc3339(sidecar.since.as_ref()),
        "reports": sidecar.reports,
        "receivedRevision": sidecar.received_revision,
        "acceptedRevision": sidecar.accepted_revision,
        "activatedRevision": sidecar.activated_revision,
        "rejections": rejections,
        "traffic": traffic,
    })
}

#[cfg(test)]
mod tests {
    use prost_types::{Duration, Timestamp as At};
    use segue_proto::admin::v1::RejectedResource;

    use super::*;

    const NOW: i64 = 1_000_000;

    fn sidecar(behind_seconds: Option<i64>, stale: bool) -> Sidecar {
        Sidecar {
            connected: true,
            reports: true,
            since: Some(At { seconds: NOW - 300, nanos: 0 }),
            activated_revision: 7,
            behind_for: behind_seconds.map(|seconds| Duration { seconds, nanos: 0 }),
            stale,
            ..Sidecar::default()
        }
    }

    fn all() -> Vec<Sidecar> {
        let rejecting =
            Sidecar { rejections: vec![RejectedResource::default()], ..sidecar(Some(200), true) };
        let gone = Sidecar { connected: false, ..sidecar(None, false) };
        let behind = Sidecar { activated_revision: 6, ..sidecar(Some(3), false) };
        vec![sidecar(None, false), behind, sidecar(Some(121), true), rejecting, gone]
    }

    #[test]
    fn states_are_told_with_their_age() {
        let now = Timestamp::from_second(NOW).unwrap();
        let states: Vec<String> =
            all().iter().map(|sidecar| State::of(sidecar).told(sidecar, now)).collect();
        assert_eq!(states, ["ok", "behind 3s", "stale 2m", "rejecting", "gone 5m"]);
    }

    #[test]
    fn the_summary_counts_what_needs_a_look() {
        let envoy = Sidecar { reports: false, ..sidecar(None, false) };
        let mut status = ListSidecarsResponse { revision: 7, ..ListSidecarsResponse::default() };
        assert_eq!(summary(&status), "revision 7: no sidecar is connected");
        status.sidecars = all();
        status.sidecars.push(envoy);
        let expected = "revision 7: active on 3 of 4 sidecars, 1 stale, 1 rejecting, 1 gone, \
                        1 other xDS clients";
        assert_eq!(summary(&status), expected);
    }

    #[test]
    fn sidecars_of_other_control_planes_are_counted() {
        let other = OtherControlPlane {
            name: "10.0.0.2:18001".to_owned(),
            sidecars: 6,
            activated: 5,
            clients: 2,
            published_revision: 7,
        };
        assert_eq!(
            elsewhere(&other),
            "elsewhere: active on 5 of 6 sidecars of 10.0.0.2:18001, 2 other xDS clients"
        );
        let mut status = ListSidecarsResponse {
            revision: 7,
            others: vec![other],
            ..ListSidecarsResponse::default()
        };
        let none = "revision 7: no sidecar is connected to this control plane";
        assert_eq!(summary(&status), none);
        status.sidecars = vec![sidecar(None, false)];
        let one = "revision 7: active on 1 of 1 sidecars of this control plane";
        assert_eq!(summary(&status), one);
        assert_eq!(value(&status)["otherControlPlanes"][0]["activated"], 5);
    }

    #[test]
    fn a_young_control_plane_says_what_it_cannot_know() {
        let now = Timestamp::from_second(NOW).unwrap();
        let of = |age: i64| ListSidecarsResponse {
            known_since: Some(At { seconds: NOW - age, nanos: 0 }),
            ..ListSidecarsResponse::default()
        };
        assert!(young(&of(12), now).unwrap().contains("started 12s ago"));
        assert_eq!(young(&of(60), now), None);
    }
}
