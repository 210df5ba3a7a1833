//! An upstream that keeps every byte, and the data plane before it, with one worker, so that all
//! callers share its connections.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use segue_shared::shutdown::DrainSignal;
use segue_sidecar::http::Door;
use segue_sidecar::listener::ConnectionGate;
use segue_sidecar::outcome::Counters;
use segue_sidecar::overload::Overload;
use segue_sidecar::settings::AppProtocol;
use segue_sidecar::snapshot_handle::SnapshotHandle;
use segue_sidecar::tls::Mesh;
use segue_sidecar::vitals::Vitals;
use segue_sidecar::workers::{Listening, WorkerSettings, Workers};
use segue_sidecar_core::snapshot::CompiledSnapshot;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::Chat;

/// What one connection to the upstream carried.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    pub requests: Vec<Request>,
    /// Bytes after the last whole request.
    pub rest: Vec<u8>,
    pub closed: bool,
}

/// A request as it stood on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The request line, then a line a header.
    pub head: Vec<String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn target(&self) -> &str {
        self.head[0].split(' ').nth(1).unwrap_or("")
    }

    /// With its headers by name, in lower case: neither order nor case means anything.
    pub fn in_order(mut self) -> Self {
        for line in &mut self.head[1..] {
            if let Some((name, value)) = line.split_once(": ") {
                *line = format!("{}: {value}", name.to_ascii_lowercase());
            }
        }
        self.head[1..].sort();
        self
    }
}

/// What the upstream answers; `None`: nothing, ever.
pub type Answer = fn(&Request) -> Option<Vec<u8>>;

/// The upstream.
pub struct Capture {
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<Carried>>>,
}

impl Capture {
    /// Answers each request with its own first words, so that an answer tells whose it is.
    pub async fn start() -> Self {
        Self::answering(|request| {
            let words: Vec<&str> = request.head[0].split(' ').take(2).collect();
            let body = if words[0] == "HEAD" { String::new() } else { words.join(" ") };
            let length = words.join(" ").len();
            Some(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes())
        })
        .await
    }

    pub async fn answering(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::<Mutex<Vec<Carried>>>::default();
        let shared = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let place = {
                    let mut log = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    log.push(Carried::default());
                    log.len() - 1
                };
                tokio::spawn(carry(stream, Arc::clone(&shared), place, answer));
            }
        });
        Self { address, log }
    }

    /// All that came so far, a connection an entry.
    pub fn carried(&self) -> Vec<Carried> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until all connections are closed, but not for ever.
    pub async fn closed(&self) {
        for _ in 0..300 {
            if self.carried().iter().all(|connection| connection.closed) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.carried().into_iter().flat_map(|connection| connection.requests).collect()
    }
}

async fn carry(mut stream: TcpStream, log: Arc<Mutex<Vec<Carried>>>, place: usize, answer: Answer) {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 65536]);
    loop {
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        bytes.extend_from_slice(&buffer[..read]);
        let mut answers = Vec::new();
        while let Some((request, length)) = whole_request(&bytes) {
            bytes.drain(..length);
            answers.push(answer(&request));
            log.lock().unwrap_or_else(PoisonError::into_inner)[place].requests.push(request);
        }
        {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log[place].rest.clone_from(&bytes);
            log[place].closed = read == 0;
        }
        if read == 0 {
            return;
        }
        for answer in answers {
            match answer {
                // A caller that went away is part of the tests.
                Some(answer) => drop(stream.write_all(&answer).await),
                None => std::future::pending().await,
            }
        }
    }
}

/// The first request and its length, read strictly: what is not well formed is never whole.
fn whole_request(bytes: &[u8]) -> Option<(Request, usize)> {
    let end = find(bytes, b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..end]).map_or_else(
        |_| bytes[..end].iter().map(|&byte| char::from(byte)).collect(),
        str::to_owned,
    );
    let head: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
    let value = |name: &str| {
        let mut values = head[1..].iter().filter_map(|line| line.split_once(": "));
        values.find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let begin = end + 4;
    if value("transfer-encoding").is_some_and(|it| it == "chunked") {
        let mut body = Vec::new();
        let mut at = begin;
        loop {
            let line = find(&bytes[at..], b"\r\n")?;
            let size = std::str::from_utf8(&bytes[at..at + line]).ok()?;
            let size = usize::from_str_radix(size, 16).ok()?;
            let data = at + line + 2;
            let chunk = bytes.get(data..data + size)?;
            body.extend_from_slice(chunk);
            if bytes.get(data + size..data + size + 2)? != b"\r\n" {
                return None;
            }
            at = data + size + 2;
            if size == 0 {
                return Some((Request { head, body }, at));
            }
        }
    }
    let length: usize = value("content-length").map_or(Some(0), |it| it.parse().ok())?;
    let body = bytes.get(begin..begin + length)?.to_vec();
    Some((Request { head, body }, begin + length))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The data plane before a captured upstream. Ends with the value.
pub struct Plane {
    pub outbound: SocketAddr,
    pub inbound: SocketAddr,
    pub counters: Arc<Counters>,
    drain: DrainSignal,
}

impl Plane {
    pub fn start(upstream: SocketAddr) -> Self {
        Self::with(Chat::http1(upstream).snapshot(1), upstream, Door::default())
    }

    pub fn with(snapshot: CompiledSnapshot, app: SocketAddr, door: Door) -> Self {
        let snapshots = SnapshotHandle::new();
        snapshots.publish(snapshot);
        let settings = WorkerSettings {
            gate: ConnectionGate::new(1000),
            overload: Overload::default(),
            workers: 1,
            outbound_address: ([127, 0, 0, 1], 0).into(),
            inbound_address: ([127, 0, 0, 1], 0).into(),
            app: Some((app, AppProtocol::Http1)),
            mesh: Mesh::default(),
            drain_timeout: Duration::from_millis(100),
            door: Arc::new(door),
        };
        let counters = Arc::new(Counters::new(1));
        let drain = DrainSignal::new();
        let vitals = Arc::new(Vitals::new(settings.workers));
        let (workers, _) =
            Workers::start(&snapshots, &settings, Listening::default(), &counters, &vitals, &drain)
                .unwrap();
        let (outbound, inbound) = (workers.outbound_address, workers.inbound_address.unwrap());
        Self { outbound, inbound, counters, drain }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.drain.cancel();
    }
}
