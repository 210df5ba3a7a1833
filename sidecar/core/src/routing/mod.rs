//! Decisions on a request: which virtual host, which route, which cluster.

mod header;
mod host;
mod path;
mod split;

use http::{HeaderMap, Method};

pub use header::joined;

/// What routes look at.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    pub method: &'a Method,
    /// Without the query.
    pub path: &'a str,
    /// Without the question mark.
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
}
