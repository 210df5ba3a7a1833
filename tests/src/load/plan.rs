//! What load to make and what answers are right.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::connection::Answer;

/// A steady load.
#[derive(Clone)]
pub struct Plan {
    /// Where connections go.
    pub target: SocketAddr,
    /// `Host` or `:authority` of requests.
    pub authority: String,
    /// Connections of HTTP/1.1 with keep-alive; one request at a time each.
    pub http1_connections: usize,
    /// Connections of HTTP/2 with prior knowledge.
    pub http2_connections: usize,
    /// Requests at a time on each connection of HTTP/2.
    pub http2_streams: usize,
    /// Number of users; requests take them in turn.
    pub users: u32,
    /// Header with the user's name, `user-N`.
    pub user_header: String,
    /// How fast.
    pub pace: Pace,
    /// Limit of time for one request.
    pub timeout: Duration,
    /// What to ask and which answers are right.
    pub expect: Arc<dyn Expect>,
}

/// How fast requests follow each other.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Each lane asks again as soon as it has its answer.
    Closed,
    /// So many requests a second in all, sent when they are due whatever the answers do; latency
    /// counts from when they were due, so that a stall is not hidden.
    Open(f64),
}

/// One request.
#[derive(Clone, Debug)]
pub struct Question {
    /// Path and query.
    pub path: String,
    /// A body makes it a POST.
    pub body: Option<bytes::Bytes>,
    /// What [`Expect::judge`] wants to know about the moment before the request.
    pub since: u64,
}

/// What is asked, and which answers are right.
pub trait Expect: Send + Sync {
    /// The request number `sequence`, made just before it is sent.
    fn ask(&self, _sequence: u64) -> Question {
        Question { path: "/".into(), body: None, since: 0 }
    }

    /// An error says why the answer is wrong.
    fn judge(&self, _question: &Question, answer: &Answer) -> Result<(), String> {
        if answer.status != 200 {
            return Err(format!("status {}", answer.status));
        }
        if answer.version.is_empty() {
            return Err("no x-version".into());
        }
        Ok(())
    }
}

/// `GET /`, answered 200 by any version.
pub struct AnyVersion;

impl Expect for AnyVersion {}

impl Plan {
    /// 16 connections of HTTP/1.1 and 4 of HTTP/2 with 4 streams, 1,000 users, 500 requests a
    /// second.
    pub fn new(target: SocketAddr, authority: impl Into<String>) -> Self {
        Self {
            target,
            authority: authority.into(),
            http1_connections: 16,
            http2_connections: 4,
            http2_streams: 4,
            users: 1000,
            user_header: "x-user-id".into(),
            pace: Pace::Open(500.0),
            timeout: Duration::from_secs(10),
            expect: Arc::new(AnyVersion),
        }
    }

    /// Requests at a time.
    pub fn lanes(&self) -> usize {
        self.http1_connections + self.http2_connections * self.http2_streams
    }
}
