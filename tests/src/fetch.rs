//! One request, for admin endpoints and single checks.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::load::{Answer, Connection, Protocol};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A request on a connection of its own.
#[derive(Clone, Debug)]
pub struct Fetch {
    target: SocketAddr,
    protocol: Protocol,
    authority: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Bytes>,
    timeout: Duration,
}

impl Fetch {
    /// `GET path` over HTTP/1.1; `Host` is the target's address.
    pub fn get(target: SocketAddr, path: impl Into<String>) -> Self {
        Self {
            target,
            protocol: Protocol::Http1,
            authority: target.to_string(),
            path: path.into(),
            headers: Vec::new(),
            body: None,
            timeout: TIMEOUT,
        }
    }

    #[must_use]
    pub fn host(mut self, authority: &str) -> Self {
        authority.clone_into(&mut self.authority);
        self
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Makes it a POST.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends it and reads the whole answer.
    pub fn send(self) -> io::Result<Answer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let failed = |error: &dyn std::fmt::Display| {
            io::Error::other(format!("{}{}: {error}", self.target, self.path))
        };
        let headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        runtime.block_on(async {
            Connection::open(self.protocol, self.target, self.timeout)
                .await
                .map_err(|error| failed(&error))?
                .ask(&self.authority, &self.path, &headers, self.body.clone())
                .await
                .map_err(|error| failed(&error))
        })
    }
}

/// The body of `GET path`, where the answer is 200.
pub fn text(target: SocketAddr, path: &str) -> io::Result<String> {
    let answer = Fetch::get(target, path).send()?;
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    if answer.status == 200 {
        Ok(body)
    } else {
        Err(io::Error::other(format!("{target}{path}: status {}: {body}", answer.status)))
    }
}
