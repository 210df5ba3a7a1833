//! Decisions on a request: which virtual host, which route, which cluster.

mod header;
mod host;
mod path;
mod split;
mod tcp;

use http::{HeaderMap, Method};

use crate::canonical::CanonPath;

pub use header::joined;
pub use tcp::Wanted;

/// What routes look at.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    method: &'a Method,
    /// In its one spelling, without parameters of segments and without the query.
    path: &'a str,
    /// Without the question mark.
    query: Option<&'a str>,
    headers: &'a HeaderMap,
}

impl<'a> RequestParts<'a> {
    /// A request's head. No path but a canonical one is ever matched.
    pub fn new(method: &'a Method, path: &'a CanonPath, headers: &'a HeaderMap) -> Self {
        Self { method, path: path.matched(), query: path.query(), headers }
    }
}
