//! What became of a request, in words that do not depend on who served it.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;

use super::request::Request;
use super::upstream::{SEEN, VERSION};
use super::wire::{Fields, Head, Wire};
use super::world::RULE;

/// Lines of requests that say how long the body is; the body itself is compared. Envoy and our
/// sidecar both frame it anew.
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];
/// Lines that Envoy adds to requests on its own; ours adds none where the application beside it
/// calls. They count where the caller has sent them itself.
const ADDED: [&str; 6] = [
    "x-request-id",
    "x-forwarded-proto",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-attempt-count",
    // What a rewrite has changed.
    "x-envoy-original-host",
    "x-envoy-original-path",
];
/// Lines of answers that concern one connection, or that each of them fills in its own way.
const OWN: [&str; 8] = [
    "connection",
    "content-length",
    "date",
    "server",
    "transfer-encoding",
    "x-envoy-upstream-service-time",
    // Looked at apart.
    SEEN,
    VERSION,
];

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub status: u16,
    /// The rule that decided, where one did.
    pub rule: Option<String>,
    pub location: Option<String>,
    /// All other lines that the caller is meant to see.
    pub answer: Fields,
    /// What reached an upstream; without it, the proxy answered itself.
    pub seen: Option<Seen>,
}

/// What an upstream was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `SERVICE/VERSION`.
    pub version: String,
    pub method: String,
    pub target: String,
    pub host: String,
    pub lines: Fields,
    pub body: String,
}

/// A connection to a proxy that is kept as long as the proxy keeps it.
pub struct Caller {
    proxy: SocketAddr,
    wire: Option<Wire>,
    sent: Vec<u8>,
    /// Whether the connection has served a request before.
    used: bool,
    /// Connections that ended between two requests although no answer said so.
    pub lost: usize,
}

impl Caller {
    pub fn new(proxy: SocketAddr) -> Self {
        Self { proxy, wire: None, sent: Vec::new(), used: false, lost: 0 }
    }

    /// Sends a request without waiting for the answer.
    pub fn send(&mut self, request: &Request) -> io::Result<()> {
        self.sent = request.bytes();
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        self.used = self.wire.is_some();
        let wire = match &mut self.wire {
            Some(wire) => wire,
            none => none.insert(Wire::connect(self.proxy)?),
        };
        // A proxy may refuse a request before it has read all of it.
        let _ = wire.write(&self.sent);
        Ok(())
    }

    /// What became of the request that was sent.
    pub fn outcome(&mut self, request: &Request) -> io::Result<Outcome> {
        let told = self.answer(request.method == "HEAD");
        let (head, body) = match told {
            Err(_) if self.used => {
                self.lost += 1;
                self.wire = None;
                self.write()?;
                self.answer(request.method == "HEAD")?
            }
            told => told?,
        };
        let status = head.first_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(head.first_line.clone()))?;
        Ok(Outcome::of(request, status, &head, &body))
    }

    fn answer(&mut self, bodiless: bool) -> io::Result<(Head, Vec<u8>)> {
        let wire = self.wire.as_mut().ok_or_else(|| io::Error::other("nothing was sent"))?;
        let (head, _) = wire.head()?.ok_or_else(|| io::Error::other("closed without an answer"))?;
        let closes = head.one("connection").is_some_and(|it| it.eq_ignore_ascii_case("close"));
        let body = if bodiless { Vec::new() } else { wire.body(&head, closes)? };
        if closes {
            self.wire = None;
        }
        Ok((head, body))
    }
}

impl Outcome {
    fn of(request: &Request, status: u16, head: &Head, body: &[u8]) -> Self {
        let upstream = head.one(VERSION);
        let seen = upstream.map(|version| match head.one(SEEN) {
            Some(digits) => Seen::parse(request, version, &unhexed(digits)),
            None => Seen::parse(request, version, body),
        });
        // The bodies of local answers are each proxy's own, and so is what describes them.
        let of_body = seen.is_none();
        let wanted = |name: &str| {
            let described = of_body && matches!(name, "content-type" | "allow");
            !OWN.contains(&name) && !described && name != "location" && name != RULE
        };
        let one = |name| head.one(name).map(str::to_owned);
        let (rule, location) = (one(RULE), one("location"));
        Self { status, rule, location, answer: head.fields(wanted), seen }
    }

    /// Whether a proxy answered with this status itself, by no rule.
    pub fn is_refusal(&self, status: u16) -> bool {
        self.status == status && self.rule.is_none() && self.seen.is_none()
    }

    /// The parts in which two differ: name, what is here, what is there.
    pub fn differs(&self, other: &Self) -> Vec<(String, String, String)> {
        let none = Seen::default();
        let (a, b) = (self.seen.as_ref().unwrap_or(&none), other.seen.as_ref().unwrap_or(&none));
        let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
        let mut parts = vec![
            ("status".to_owned(), text(&self.status), text(&other.status)),
            ("rule".into(), text(&self.rule), text(&other.rule)),
            ("location".into(), text(&self.location), text(&other.location)),
            ("version".into(), text(&a.version), text(&b.version)),
        ];
        // Where one alone asked an upstream, what it asked is no news.
        if self.seen.is_some() == other.seen.is_some() {
            parts.push(("method".into(), text(&a.method), text(&b.method)));
            parts.push(("target".into(), text(&a.target), text(&b.target)));
            parts.push(("host".into(), text(&a.host), text(&b.host)));
            parts.push(("body".into(), text(&a.body), text(&b.body)));
            let names: BTreeSet<&String> = a.lines.keys().chain(b.lines.keys()).collect();
            parts.extend(names.into_iter().map(|name| {
                let place = format!("request {name}");
                (place, text(&a.lines.get(name)), text(&b.lines.get(name)))
            }));
            let names: BTreeSet<&String> = self.answer.keys().chain(other.answer.keys()).collect();
            parts.extend(names.into_iter().map(|name| {
                let place = format!("answer {name}");
                (place, text(&self.answer.get(name)), text(&other.answer.get(name)))
            }));
        }
        parts.retain(|(_, here, there)| here != there);
        parts
    }
}

impl Seen {
    fn parse(request: &Request, version: &str, told: &[u8]) -> Self {
        let end = told.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(0, |at| at + 4);
        let (head, body) = told.split_at(end);
        let head = Head::parse(head);
        let mut words = head.first_line.split(' ').map(str::to_owned);
        let wanted = |name: &str| {
            let added = ADDED.contains(&name) && !request.has(name);
            !FRAMING.contains(&name) && !added && name != "host"
        };
        Self {
            version: version.to_owned(),
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            host: head.one("host").unwrap_or_default().to_owned(),
            lines: head.fields(wanted),
            body: String::from_utf8_lossy(body).into_owned(),
        }
    }
}

fn unhexed(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.filter_map(byte).collect()
}
