//! Plays rows and judges them.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use segue_sidecar::http::Door;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::capture::{Capture, Plane, Request};
use crate::support::Chat;

/// No more bytes come behind an answer when none came for so long.
const QUIET: Duration = Duration::from_millis(400);
/// No answer comes when none came for so long.
const PATIENCE: Duration = Duration::from_secs(3);
/// Rows that are played at one time.
const AT_ONCE: usize = 16;

/// One case.
pub struct Row {
    /// Number in RELIABILITY.md, and what is odd about the bytes.
    pub name: &'static str,
    pub sent: Vec<u8>,
    pub expected: Expected,
    /// Whether it comes to the listener for others' requests, rather than for the application's.
    pub inbound: bool,
    pub door: Door,
}

/// What must come of a row.
pub enum Expected {
    /// This status, a closed connection, and nothing sent on. With our own words for it, or with
    /// whatever the codec says.
    Refused { status: u16, in_our_words: bool },
    /// This status, a closed connection, and a request to the upstream that was never completed,
    /// whose connection was closed.
    Aborted { status: u16 },
    /// An answer, and exactly this one request.
    Forwarded { head: Vec<String>, body: Vec<u8> },
}

pub fn refused(status: u16) -> Expected {
    Expected::Refused { status, in_our_words: true }
}

/// Refused by the codec, before there is a request that we could find words for.
pub fn unreadable(status: u16) -> Expected {
    Expected::Refused { status, in_our_words: false }
}

pub fn aborted(status: u16) -> Expected {
    Expected::Aborted { status }
}

/// The request line and headers, a line each.
pub fn forwarded(head: &str) -> Expected {
    forwarded_with(head, "")
}

pub fn forwarded_with(head: &str, body: &str) -> Expected {
    let head = head.lines().map(|line| line.trim().to_owned()).collect();
    Expected::Forwarded { head, body: body.as_bytes().to_vec() }
}

pub fn row(name: &'static str, sent: impl AsRef<[u8]>, expected: Expected) -> Row {
    let sent = sent.as_ref().to_vec();
    Row { name, sent, expected, inbound: false, door: Door::default() }
}

/// What a caller saw on a connection until it was closed or quiet.
pub struct Seen {
    pub bytes: Vec<u8>,
    pub closed: bool,
}

impl Seen {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The status of the first answer that is no interim one.
    pub fn status(&self) -> u16 {
        let text = self.text();
        let lines = text.lines().filter_map(|line| line.strip_prefix("HTTP/1."));
        let statuses = lines.filter_map(|line| line.get(2..5)?.parse().ok());
        statuses.into_iter().find(|status| *status >= 200).unwrap_or(0)
    }
}

/// Sends bytes on a connection of their own.
pub async fn send(address: SocketAddr, bytes: &[u8]) -> Seen {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Whoever refuses a head may close before all of it is sent.
    let _ = stream.write_all(bytes).await;
    read_on(&mut stream).await
}

pub async fn read_on(stream: &mut TcpStream) -> Seen {
    let mut seen = Seen { bytes: Vec::new(), closed: false };
    let mut buffer = vec![0; 65536];
    loop {
        let wait = if seen.status() == 0 { PATIENCE } else { QUIET };
        match tokio::time::timeout(wait, stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return Seen { closed: true, ..seen },
            Ok(Ok(read)) => seen.bytes.extend_from_slice(&buffer[..read]),
            Err(_) => return seen,
        }
    }
}

/// Plays all rows and fails with all that went wrong. A row in `known` must fail: once it does not,
/// it has no place there any more.
pub async fn judge(rows: Vec<Row>, known: &[&str]) {
    for name in known {
        assert!(
            rows.iter().any(|row| row.name == *name),
            "{name}: known, and there is no such row"
        );
    }
    let mut wrong = Vec::new();
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let some: Vec<Row> = rows.by_ref().take(AT_ONCE).collect();
        let verdicts = join_all(some.iter().map(play)).await;
        for (row, verdict) in some.iter().zip(verdicts) {
            match (verdict, known.contains(&row.name)) {
                (Ok(()), false) | (Err(_), true) => {}
                (Ok(()), true) => {
                    wrong.push(format!("{}: passes, remove it from the list", row.name));
                }
                (Err(why), false) => wrong.push(format!("{}: {why}", row.name)),
            }
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

async fn play(row: &Row) -> Result<(), String> {
    let upstream = Capture::start().await;
    let snapshot = Chat::http1(upstream.address).snapshot(1);
    let plane = Plane::with(snapshot, upstream.address, row.door.clone());
    let address = if row.inbound { plane.inbound } else { plane.outbound };
    let seen = send(address, &row.sent).await;
    if matches!(row.expected, Expected::Aborted { .. }) {
        upstream.closed().await;
    }
    judge_row(row, &seen, &upstream)?;
    let before = upstream.requests().len();
    let second =
        send(address, b"GET /second HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n").await;
    if !second.text().ends_with("\r\n\r\nGET /second") {
        return Err(format!("a second caller saw {:?}", second.text()));
    }
    match &upstream.requests()[before..] {
        [only] if only.target() == "/second" => Ok(()),
        other => Err(format!("a second caller's request became {other:?}")),
    }
}

fn judge_row(row: &Row, seen: &Seen, upstream: &Capture) -> Result<(), String> {
    let carried = upstream.carried();
    let requests = upstream.requests();
    let told = || format!("answered {:?}, sent on {carried:?}", seen.text());
    let check =
        |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("{what}: {}", told())) };
    match &row.expected {
        Expected::Refused { status, in_our_words } => {
            check(seen.status() == *status, "another status")?;
            check(seen.closed, "the connection stays open")?;
            check(!in_our_words || is_problem(&seen.text()), "no problem details")?;
            let nothing = carried.iter().all(|it| it.requests.is_empty() && it.rest.is_empty());
            check(nothing, "something was sent on")
        }
        Expected::Aborted { status } => {
            check(seen.status() == *status, "another status")?;
            check(seen.closed, "the connection stays open")?;
            check(requests.is_empty(), "the upstream got a whole request")?;
            check(carried.iter().all(|it| it.closed), "the upstream's connection stays open")
        }
        Expected::Forwarded { head, body } => {
            check(seen.status() == 200, "another status")?;
            let wanted = Request { head: head.clone(), body: body.clone() }.in_order();
            let came: Vec<Request> = requests.into_iter().map(Request::in_order).collect();
            check(came == [wanted], "another request")?;
            check(carried.iter().all(|it| it.rest.is_empty()), "more than a request")?;
            let words: Vec<&str> = head[0].split(' ').take(2).collect();
            check(seen.text().contains(&words.join(" ")), "another answer")
        }
    }
}

fn is_problem(text: &str) -> bool {
    text.to_ascii_lowercase().contains("content-type: application/problem+json\r\n")
        && text.contains(r#""reason":""#)
}
