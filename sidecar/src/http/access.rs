//! What a request leaves in the access log.

use std::sync::Arc;
use std::time::SystemTime;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Version};

use super::caller::{Caller, Direction};
use super::request_context::RequestContext;
use super::respond::Reject;
use crate::access_log::Entry;

/// What is known of a request before it is sent away. Taking it allocates nothing.
pub struct Trace {
    method: Method,
    version: Version,
    target: PathAndQuery,
}

impl Trace {
    /// Of a valid request.
    pub fn of(parts: &Parts, context: &RequestContext) -> Self {
        Self {
            method: parts.method.clone(),
            version: parts.version,
            target: context.path.target().clone(),
        }
    }

    /// The request and its end.
    pub fn entry(
        &self,
        caller: &Caller,
        context: &RequestContext,
        status: u16,
        reject: Option<Reject>,
        cluster: Option<Arc<str>>,
    ) -> Entry {
        Entry {
            method: self.method.to_string(),
            authority: context.authority.as_str().to_owned(),
            path: self.target.path().to_owned(),
            protocol: format!("{:?}", self.version),
            cluster,
            duration: context.arrival.elapsed(),
            ..unreadable(caller, status, reject)
        }
    }
}

/// A request that has no one meaning: what it says of itself is not repeated.
pub fn unreadable(caller: &Caller, status: u16, reject: Option<Reject>) -> Entry {
    Entry {
        time: SystemTime::now(),
        direction: match caller.direction {
            Direction::Outbound => "outbound",
            Direction::Inbound => "inbound",
        },
        peer: caller.peer.address().to_owned(),
        identity: caller.identity.as_ref().map(ToString::to_string),
        method: String::new(),
        authority: String::new(),
        path: String::new(),
        protocol: String::new(),
        status,
        flags: reject.map_or("", Reject::flag),
        reason: reject.map_or("", Reject::reason),
        cluster: None,
        duration: std::time::Duration::ZERO,
    }
}
