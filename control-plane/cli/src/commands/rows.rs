//! Resources as rows of tables.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use segue_control_plane_core::config::{self, Kind};
use segue_proto::admin::v1::condition::Status;
use segue_proto::admin::v1::{Condition, Entry};
use segue_proto::config::v1::resource::Resource as Body;
use segue_proto::config::v1::{Resource, Route, Service};
use serde_json::Value;

/// Columns of a kind's table. `None`: of resources of any kind.
pub fn header(kind: Option<Kind>, wide: bool, all_namespaces: bool) -> Vec<&'static str> {
    let mut header = if all_namespaces { vec!["NAMESPACE"] } else { vec![] };
    header.push("NAME");
    match kind {
        Some(Kind::Service) => header.extend(["PROTOCOL", "VERSIONS", "DEFAULT"]),
        Some(Kind::Route) => header.extend(["SERVICE", "SPLIT BY", "BACKENDS"]),
        Some(_) => header.push("TARGET"),
        None => {}
    }
    header.extend(["REVISION", "AGE"]);
    if wide {
        match kind {
            Some(Kind::Service) => header.extend(["PORT", "HOSTS", "ENDPOINTS"]),
            Some(Kind::Route) => header.push("RULES"),
            _ => {}
        }
        header.extend(["PROGRAMMED", "LABELS", "CHANGED"]);
    }
    header
}

/// The cells of one resource under [`header`].
pub fn row(
    entry: &Entry,
    kind: Option<Kind>,
    wide: bool,
    all_namespaces: bool,
    now: Timestamp,
) -> Vec<String> {
    let resource = entry.resource.clone().unwrap_or_default();
    let key = config::key(&resource);
    let mut row = if all_namespaces { vec![key.namespace.clone()] } else { vec![] };
    row.push(match kind {
        Some(_) => key.name.clone(),
        None => format!("{}/{}", key.kind.as_str().to_ascii_lowercase(), key.name),
    });
    let mut more = Vec::new();
    match (kind, &resource.resource) {
        (Some(_), Some(Body::Service(service))) => {
            row.extend(service_cells(service, &resource));
            more = wide_service_cells(service);
        }
        (Some(_), Some(Body::Route(route))) => {
            row.extend([target(&resource), split_by(&resource), backends(route)]);
            let rules = route.spec.as_ref().map_or(0, |spec| spec.rules.len());
            more = vec![rules.to_string()];
        }
        (Some(_), _) => row.push(target(&resource)),
        (None, _) => {}
    }
    row.extend([entry.revision.to_string(), age(entry.created_at.as_ref(), now)]);
    if wide {
        row.extend(more);
        row.extend([programmed(entry), labels(&resource), local(entry.changed_at.as_ref())]);
    }
    row
}

/// `True`, or what stands in the way in one word: `False (Pending)`.
fn programmed(entry: &Entry) -> String {
    let found = entry.conditions.iter().find(|condition| condition.r#type == "Programmed");
    none(found.map_or_else(String::new, |condition| match condition.status() {
        Status::True => "True".to_owned(),
        _ => format!("{} ({})", status(condition), condition.reason),
    }))
}

/// A condition's status, as Kubernetes says it.
pub fn status(condition: &Condition) -> &'static str {
    match condition.status() {
        Status::True => "True",
        Status::False => "False",
        Status::Unknown | Status::Unspecified => "Unknown",
    }
}

fn service_cells(service: &Service, resource: &Resource) -> [String; 3] {
    let spec = service.spec.clone().unwrap_or_default();
    let versions: Vec<&str> = spec.versions.iter().map(|version| version.name.as_str()).collect();
    let default = if spec.default_version.is_empty() {
        versions.first().copied().unwrap_or_default().to_owned()
    } else {
        spec.default_version.clone()
    };
    let protocol = field(resource, "/spec/protocol").unwrap_or_else(|| "http".to_owned());
    [protocol, versions.join(","), default]
}

fn wide_service_cells(service: &Service) -> Vec<String> {
    let spec = service.spec.clone().unwrap_or_default();
    let endpoints: Vec<String> = spec
        .versions
        .iter()
        .map(|version| {
            let place = match version.dns.as_str() {
                "" => {
                    let local = version.localities.iter().flat_map(|it| &it.endpoints);
                    let all: Vec<&str> =
                        version.endpoints.iter().chain(local).map(String::as_str).collect();
                    all.join(",")
                }
                dns => dns.to_owned(),
            };
            format!("{}={place}", version.name)
        })
        .collect();
    vec![spec.port.unwrap_or(80).to_string(), none(spec.hosts.join(",")), endpoints.join(" ")]
}

/// The versions of each rule with their weights, such as `v1=95,v2=5`; rules apart by ` | `.
fn backends(route: &Route) -> String {
    let rules = route.spec.iter().flat_map(|spec| &spec.rules);
    let rules: Vec<String> = rules
        .map(|rule| {
            let backends = rule.backend_refs.iter().map(|backend| {
                let version =
                    if backend.version.is_empty() { "(default)" } else { backend.version.as_str() };
                format!("{version}={}", backend.weight.unwrap_or(1))
            });
            none(backends.collect::<Vec<_>>().join(","))
        })
        .collect();
    none(rules.join(" | "))
}

fn split_by(resource: &Resource) -> String {
    let json = config::to_json(resource);
    let split = json.pointer("/spec/splitBy").and_then(Value::as_object);
    let word = split.and_then(|split| split.iter().next()).map(|(key, value)| match value {
        Value::String(name) => format!("{key} {name}"),
        _ => key.clone(),
    });
    none(word.unwrap_or_default())
}

fn target(resource: &Resource) -> String {
    none(field(resource, "/spec/targetRef/name").unwrap_or_default())
}

fn field(resource: &Resource, pointer: &str) -> Option<String> {
    config::to_json(resource).pointer(pointer)?.as_str().map(str::to_owned)
}

pub fn labels(resource: &Resource) -> String {
    let json = config::to_json(resource);
    let labels: BTreeMap<String, String> = json
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    none(labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
}

pub fn none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

/// `45s`, `12m`, `5h` or `3d`, as kubectl tells ages.
pub fn age(since: Option<&prost_types::Timestamp>, now: Timestamp) -> String {
    let Some(since) = since else { return "<unknown>".to_owned() };
    seconds(now.as_second().saturating_sub(since.seconds))
}

/// A length of time in the same words.
pub fn seconds(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// A moment on the clock of this machine.
pub fn local(at: Option<&prost_types::Timestamp>) -> String {
    at.and_then(|at| Timestamp::new(at.seconds, 0).ok())
        .map(|at| at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string())
        .unwrap_or_default()
}

/// A moment for programs (RFC 3339).
pub fn rfc3339(at: Option<&prost_types::Timestamp>) -> Option<String> {
    at.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok()).map(|at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7_199, "119m"),
            (7_200, "2h"),
            (172_800, "2d"),
            (-5, "0s"),
        ] {
            let since = prost_types::Timestamp { seconds: 1_000_000 - seconds, nanos: 0 };
            assert_eq!(age(Some(&since), now), expected);
        }
        assert_eq!(age(None, now), "<unknown>");
    }
}
