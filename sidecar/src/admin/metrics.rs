//! `/metrics` in Prometheus' text format.

use std::fmt::{Display, Write as _};
use std::time::UNIX_EPOCH;

use super::state::Admin;
use crate::http::flag_of;
use crate::outcome::{ClusterCounters, LATENCY_BOUNDS, Totals};
use crate::tls::Told;
use crate::vitals::VitalTotals;

/// One family of samples.
struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

/// All metrics of the sidecar.
pub fn render(admin: &Admin) -> String {
    let mut text = String::with_capacity(16 * 1024);
    let clusters: Vec<(String, Totals)> =
        admin.counters.all().iter().map(|cluster| (labels(cluster), cluster.totals())).collect();
    for (name, help, kind, value) in SIMPLE {
        let mut family = Family::begin(&mut text, name, help, kind);
        for (labels, totals) in &clusters {
            family.sample("", labels, value(totals));
        }
    }
    health(&mut text, admin);
    responses(&mut text, &clusters);
    latency(&mut text, &clusters);
    let mut family = Family::begin(
        &mut text,
        "segue_refusals_total",
        "Requests answered by the sidecar itself with an error, and answers and HTTP/2 connections \
         that it gave up.",
        "counter",
    );
    for (reason, count) in admin.counters.refusals() {
        let flag = flag_of(reason);
        family.sample("", &format!("reason=\"{reason}\",flag=\"{flag}\""), count);
    }
    if let Some(log) = &admin.access_log {
        let help = "Lines of the access log that were wanted and are nowhere.";
        Family::begin(&mut text, "segue_access_log_lines_lost_total", help, "counter").sample(
            "",
            "",
            log.lost(),
        );
    }
    let help = "Connections of callers that were closed at once: all places were taken, or memory was short.";
    Family::begin(&mut text, "segue_downstream_connections_refused_total", help, "counter").sample(
        "",
        "",
        admin.gate.refused(),
    );
    let help = "What is given up for want of memory: 0 nothing, 1 idle connections sooner, \
                2 keep-alive, 3 new requests.";
    Family::begin(&mut text, "segue_overload_step", help, "gauge").sample(
        "",
        "",
        admin.overload.step() as u8,
    );
    identity(&mut text, admin);
    configuration(&mut text, admin);
    text
}

type Value = fn(&Totals) -> u64;

const SIMPLE: [(&str, &str, &str, Value); 19] = [
    ("segue_requests_total", "Requests sent to a version.", "counter", |t| t.requests),
    (
        "segue_request_failures_total",
        "Requests that got no answer or 5xx from a version.",
        "counter",
        |t| t.failures,
    ),
    ("segue_requests_cancelled_total", "Requests that the caller gave up.", "counter", |t| {
        t.cancelled
    }),
    ("segue_retries_total", "Attempts after the first.", "counter", |t| t.retries),
    (
        "segue_retries_refused_total",
        "Attempts after the first that the retry budget did not allow.",
        "counter",
        |t| t.retries_refused,
    ),
    (
        "segue_hedges_total",
        "Attempts that began while another one of the request ran.",
        "counter",
        |t| t.hedges,
    ),
    ("segue_hedges_won_total", "Those of them that answered first.", "counter", |t| t.hedges_won),
    ("segue_requests_pending", "Requests that wait for room now.", "gauge", |t| t.pending),
    (
        "segue_mirrored_requests_total",
        "Copies of requests to other versions, whose answers are dropped.",
        "counter",
        |t| t.copies,
    ),
    (
        "segue_mirrored_request_failures_total",
        "Copies of requests that got no answer.",
        "counter",
        |t| t.copies_failed,
    ),
    ("segue_requests_in_flight", "Requests that run now.", "gauge", |t| t.in_flight),
    ("segue_upstream_connections", "Open connections.", "gauge", |t| t.connections),
    ("segue_upstream_connects_total", "Connections opened.", "counter", |t| t.connects),
    (
        "segue_upstream_connect_failures_total",
        "Connections that could not be opened.",
        "counter",
        |t| t.connect_failures,
    ),
    (
        "segue_upstream_connections_lost_total",
        "HTTP/2 connections given up, since no ping was answered.",
        "counter",
        |t| t.connections_lost,
    ),
    (
        "segue_upstream_cross_locality_total",
        "Attempts that went to another locality than the sidecar's, where localities matter.",
        "counter",
        |t| t.cross_locality,
    ),
    (
        "segue_tunnels_total",
        "Connections of callers that were passed through as they are.",
        "counter",
        |t| t.tunnels,
    ),
    (
        "segue_tunnel_sent_bytes_total",
        "Bytes of such connections to the upstream.",
        "counter",
        |t| t.tunnel_bytes[0],
    ),
    (
        "segue_tunnel_received_bytes_total",
        "Bytes of such connections from the upstream.",
        "counter",
        |t| t.tunnel_bytes[1],
    ),
];

type VitalValue = fn(&VitalTotals) -> u64;

const HEALTH: [(&str, &str, &str, VitalValue); 3] = [
    ("segue_endpoints_ejected", "Endpoints ejected now.", "gauge", |t| t.ejected),
    (
        "segue_endpoint_ejections_total",
        "Ejections of endpoints for their failures.",
        "counter",
        |t| t.ejections,
    ),
    ("segue_endpoints_sick", "Endpoints whose probes do not pass now.", "gauge", |t| t.sick),
];

fn health(text: &mut String, admin: &Admin) {
    let clusters: Vec<(String, VitalTotals)> = admin
        .counters
        .all()
        .iter()
        .filter_map(|it| Some((labels(it), admin.vitals.by_name(&it.name)?.totals())))
        .collect();
    for (name, help, kind, value) in HEALTH {
        let mut family = Family::begin(text, name, help, kind);
        for (labels, totals) in &clusters {
            family.sample("", labels, value(totals));
        }
    }
}

fn identity(text: &mut String, admin: &Admin) {
    let handshakes = &admin.mesh.handshakes;
    let mut family = Family::begin(
        text,
        "segue_tls_handshakes_total",
        "Handshakes that succeeded, by which end the sidecar was.",
        "counter",
    );
    for Told { end, what, count } in handshakes.successes() {
        family.sample("", &format!("end=\"{}\",kind=\"{what}\"", end.as_str()), count);
    }
    let mut family = Family::begin(
        text,
        "segue_tls_refusals_total",
        "Connections that were refused, or were not made, for what the other end showed or did not.",
        "counter",
    );
    for Told { end, what, count } in handshakes.refusals() {
        family.sample("", &format!("end=\"{}\",reason=\"{what}\"", end.as_str()), count);
    }
    let [taken, failed] = admin.renewals.counts();
    for (name, help, value) in [
        ("segue_identity_renewals_total", "Certificates that the sidecar has got.", taken),
        ("segue_identity_failures_total", "Attempts to get one that failed.", failed),
    ] {
        Family::begin(text, name, help, "counter").sample("", "", value);
    }
    if let Some(identity) = admin.mesh.identity() {
        let end = identity.svid.not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
        let help = "End of the sidecar's certificate, in seconds since 1970.";
        Family::begin(text, "segue_identity_expiry_timestamp_seconds", help, "gauge").sample(
            "",
            "",
            end.as_secs(),
        );
    }
}

fn responses(text: &mut String, clusters: &[(String, Totals)]) {
    let help = "Ended requests by class of the answer.";
    let mut family = Family::begin(text, "segue_responses_total", help, "counter");
    for (labels, totals) in clusters {
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];
        for (class, count) in classes.iter().zip(totals.classes) {
            family.sample("", &format!("{labels},class=\"{class}\""), count);
        }
    }
}

fn latency(text: &mut String, clusters: &[(String, Totals)]) {
    let help = "From a request's arrival to the end of its answer.";
    let mut family = Family::begin(text, "segue_request_seconds", help, "histogram");
    for (labels, totals) in clusters {
        let mut count = 0;
        for (i, bucket) in totals.latency.iter().enumerate() {
            count += bucket;
            let le = LATENCY_BOUNDS.get(i).map_or("+Inf".to_owned(), f64::to_string);
            family.sample("_bucket", &format!("{labels},le=\"{le}\""), count);
        }
        family.sample("_sum", labels, totals.latency_micros as f64 / 1e6);
        family.sample("_count", labels, count);
    }
}

fn configuration(text: &mut String, admin: &Admin) {
    let snapshot = admin.snapshots.load();
    let delivery = admin.delivery.borrow().clone();
    let status = admin.status.borrow().clone();
    for (name, help, value) in [
        ("segue_downstream_connections", "Connections of callers.", admin.gate.open() as u64),
        ("segue_snapshot_generation", "Swaps of the snapshot so far.", snapshot.generation),
        (
            "segue_accepted_revision",
            "Newest revision whose resources were all taken.",
            delivery.accepted_revision.0,
        ),
        (
            "segue_activated_revision",
            "Newest revision that requests run on.",
            delivery.activated_revision.0,
        ),
        (
            "segue_rejected_resources",
            "Resources refused, whose last good versions serve on.",
            delivery.rejections.len() as u64,
        ),
        (
            "segue_control_plane_connected",
            "Whether a stream to the control plane is open.",
            u64::from(status.connected),
        ),
        ("segue_xds_streams", "Streams to the control plane so far.", status.streams),
        (
            "segue_dns_names",
            "Host names of clusters whose addresses are followed.",
            status.dns.names as u64,
        ),
    ] {
        Family::begin(text, name, help, "gauge").sample("", "", value);
    }
    for (name, help, value) in [
        (
            "segue_xds_reconnects_total",
            "Streams to a control plane after the first, tried or opened.",
            status.streams.saturating_sub(1),
        ),
        ("segue_xds_rejections_total", "Resources refused.", status.rejections),
        (
            "segue_xds_resource_timeouts_total",
            "References that did not come within the resource timeout.",
            status.resource_timeouts,
        ),
        (
            "segue_xds_lower_revisions_total",
            "Streams that ended because a control plane offered less than what runs here.",
            status.lower_marks,
        ),
        (
            "segue_dns_answers_total",
            "Lookups of host names that were answered.",
            status.dns.answers,
        ),
        ("segue_dns_failures_total", "Lookups of host names that failed.", status.dns.failures),
        (
            "segue_dns_turned_away_total",
            "Host names that are not followed because there are too many.",
            status.dns.turned_away,
        ),
    ] {
        Family::begin(text, name, help, "counter").sample("", "", value);
    }
    if let Some(last) = status.last_update {
        let help = "Time since the last response of a control plane.";
        Family::begin(text, "segue_xds_last_update_age_seconds", help, "gauge").sample(
            "",
            "",
            last.elapsed().as_secs_f64(),
        );
    }
}

impl<'a> Family<'a> {
    fn begin(text: &'a mut String, name: &'static str, help: &str, kind: &str) -> Self {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Self { text, name }
    }

    fn sample(&mut self, suffix: &str, labels: &str, value: impl Display) {
        let name = self.name;
        let _ = if labels.is_empty() {
            writeln!(self.text, "{name}{suffix} {value}")
        } else {
            writeln!(self.text, "{name}{suffix}{{{labels}}} {value}")
        };
    }
}

fn labels(cluster: &ClusterCounters) -> String {
    let name = escape(&cluster.name);
    match &cluster.version {
        Some((service, version)) => {
            format!("cluster=\"{name}\",service=\"{service}\",version=\"{version}\"")
        }
        None => format!("cluster=\"{name}\""),
    }
}

/// Names of foreign control planes may hold anything.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_be_broken_out_of() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
