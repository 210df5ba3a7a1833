//! `/config_dump` and `/clusters`: what the sidecar runs on, as JSON. No secrets: there are none in
//! a snapshot.

use segue_sidecar_core::snapshot::{
    Cluster, CompiledSnapshot, HttpVersion, Route, RouteAction, VirtualHost,
};
use serde_json::{Value, json};

use super::state::Admin;

/// Revisions, routes and clusters.
pub fn config(admin: &Admin) -> Value {
    let snapshot = admin.snapshots.load();
    let delivery = admin.delivery.borrow().clone();
    let status = admin.status.borrow().clone();
    let rejections: Vec<Value> = delivery
        .rejections
        .iter()
        .map(|rejection| {
            json!({
                "typeUrl": rejection.reject.type_url,
                "resource": rejection.reject.resource,
                "fieldPath": rejection.reject.field_path,
                "reason": rejection.reject.reason,
                "revision": rejection.revision.map(|revision| revision.0),
            })
        })
        .collect();
    let routes = &snapshot.routes;
    let mut hosts: Vec<Value> = Vec::new();
    let mut exact: Vec<_> = routes.exact.iter().collect();
    exact.sort_by_key(|(domain, _)| *domain);
    for (domain, host) in exact {
        hosts.push(virtual_host(domain, host, &snapshot));
    }
    for (suffix, host) in &routes.suffixes {
        hosts.push(virtual_host(&format!("*{suffix}"), host, &snapshot));
    }
    for (prefix, host) in &routes.prefixes {
        hosts.push(virtual_host(&format!("{prefix}*"), host, &snapshot));
    }
    if let Some(host) = &routes.any {
        hosts.push(virtual_host("*", host, &snapshot));
    }
    json!({
        "node": admin.node_id,
        "generation": snapshot.generation,
        "revision": snapshot.revision.map(|revision| revision.0),
        "acceptedRevision": delivery.accepted_revision.0,
        "activatedRevision": delivery.activated_revision.0,
        "rejections": rejections,
        "waitingFor": delivery.waiting_for,
        "controlPlane": {
            "url": status.control_plane,
            "connected": status.connected,
            "streams": status.streams,
            "lastError": status.last_error,
        },
        "routes": hosts,
        "clusters": snapshot.clusters.iter().map(|it| cluster(it)).collect::<Vec<_>>(),
    })
}

/// Clusters with their endpoints and counters.
pub fn clusters(admin: &Admin) -> Value {
    let snapshot = admin.snapshots.load();
    let counters = admin.counters.all();
    let clusters: Vec<Value> = snapshot
        .clusters
        .iter()
        .map(|it| {
            let mut value = cluster(it);
            if let Some(counters) = counters.iter().find(|counters| counters.name == it.name) {
                let totals = counters.totals();
                value["requests"] = totals.requests.into();
                value["failures"] = totals.failures.into();
                value["inFlight"] = totals.in_flight.into();
                value["pending"] = totals.pending.into();
                value["connections"] = totals.connections.into();
            }
            if let Some(vitals) = admin.vitals.by_name(&it.name) {
                let endpoints = value["endpoints"].as_array_mut().into_iter().flatten();
                for (endpoint, value) in it.endpoints.iter().zip(endpoints) {
                    let (ejected, sick) = vitals.state(endpoint.address);
                    value["ejected"] = ejected.into();
                    value["probesFail"] = sick.into();
                }
            }
            value
        })
        .collect();
    json!({ "clusters": clusters })
}

fn virtual_host(domain: &str, host: &VirtualHost, snapshot: &CompiledSnapshot) -> Value {
    let routes: Vec<Value> = host.routes().iter().map(|it| route(it, snapshot)).collect();
    json!({ "domain": domain, "virtualHost": host.name, "routes": routes })
}

fn route(route: &Route, snapshot: &CompiledSnapshot) -> Value {
    let action = match &route.action {
        RouteAction::Forward(forward) => {
            let mut begin = 0;
            let mut ranges = Vec::new();
            for (end, index) in &forward.split.ranges {
                let name = snapshot.clusters.get(*index).map(|cluster| &*cluster.name);
                ranges.push(json!({ "cluster": name, "buckets": end - begin }));
                begin = *end;
            }
            json!({
                "splitBy": format!("{:?}", forward.split.key),
                "split": ranges,
                "timeout": forward.timeout.map(|timeout| timeout.as_secs_f64()),
            })
        }
        RouteAction::Direct(direct) => json!({ "status": direct.status.as_u16() }),
        RouteAction::Redirect(redirect) => json!({ "redirect": redirect.status.as_u16() }),
    };
    json!({ "name": route.name, "match": format!("{:?}", route.matcher), "action": action })
}

fn cluster(cluster: &Cluster) -> Value {
    let http = match cluster.http {
        HttpVersion::Http1 => "http1",
        HttpVersion::Http2 => "http2",
    };
    let endpoints: Vec<Value> = cluster
        .endpoints
        .iter()
        .map(|it| {
            let mut value = json!({
                "address": it.address.to_string(),
                "weight": it.weight,
                "priority": it.priority,
            });
            if !it.others.is_empty() {
                let others: Vec<String> = it.others.iter().map(ToString::to_string).collect();
                value["furtherAddresses"] = others.into();
            }
            if let Some(locality) = &it.locality {
                value["locality"] = locality.to_string().into();
                value["localityWeight"] = it.locality_weight.into();
            }
            value
        })
        .collect();
    json!({
        "name": &*cluster.name,
        "version": cluster.version.as_ref().map(|(_, version)| version.as_str()),
        "http": http,
        "connectTimeout": cluster.connect_timeout.as_secs_f64(),
        "loadBalancer": format!("{:?}", cluster.traffic.algorithm),
        "endpoints": endpoints,
    })
}
