//! A route that answers 403 itself, before the one that leads to the upstream.

use std::sync::Arc;

use http::StatusCode;
use segue_sidecar_core::snapshot::{
    CompiledSnapshot, DirectResponse, HeaderEdits, HeaderMatcher, PathMatcher, Route, RouteAction,
    RouteMatcher, RouteTable, VirtualHost,
};

use crate::support::Chat;

/// What the sidecar denies: a path with all below it, and requests that meet all conditions.
pub fn denying(chat: &Chat, path: PathMatcher, headers: Vec<HeaderMatcher>) -> CompiledSnapshot {
    let mut snapshot = chat.snapshot(1);
    let deny = Route {
        name: "deny".into(),
        matcher: RouteMatcher { path, method: None, headers, query: Vec::new() },
        action: RouteAction::Direct(DirectResponse {
            status: StatusCode::FORBIDDEN,
            body: Box::default(),
        }),
        fault: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    };
    let host = &snapshot.routes.exact["chat"];
    let mut routes = vec![Arc::new(deny)];
    routes.extend(host.routes().iter().cloned());
    let host = Arc::new(VirtualHost::new(host.name.clone(), routes));
    let mut table = RouteTable { ignore_port: true, ..RouteTable::default() };
    table.insert(&"chat".parse().unwrap(), host);
    snapshot.routes = Arc::new(table);
    snapshot
}
