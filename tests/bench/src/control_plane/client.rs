//! One stream as a sidecar of ours holds it: all types with wildcards, an ACK for each response.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use h2::client::Builder;
use h2::{RecvStream, SendStream};
use tokio::net::TcpStream;

use super::tally::Tally;
use super::wire::{self, Answer, Node, Request};

const METHOD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// What our sidecars ask for, in their order: the words of the wire, as any client writes them.
const WANTED: [(&str, &[&str]); 6] = [
    ("type.googleapis.com/envoy.config.cluster.v3.Cluster", &["*"]),
    ("type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment", &["*"]),
    ("type.googleapis.com/envoy.config.listener.v3.Listener", &["*"]),
    ("type.googleapis.com/envoy.config.route.v3.RouteConfiguration", &["outbound"]),
    ("type.googleapis.com/envoy.config.route.v3.VirtualHost", &["*"]),
    (MARK, &["*"]),
];
/// The end of a snapshot.
const MARK: &str = "type.googleapis.com/segue.extension.v1.SnapshotMark";
/// Largest response that is taken.
const MOST_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
const WINDOW: u32 = 64 * 1024;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// What a client in sync holds. All clients of one scope hold the same, so one of them keeps it for
/// all.
pub type Holds = Arc<Mutex<Held>>;

/// Names and versions by type.
#[derive(Debug, Default)]
pub struct Held {
    versions: BTreeMap<String, BTreeMap<String, String>>,
    /// The same as requests say it, where one did since the last change.
    said: BTreeMap<String, Bytes>,
}

impl Held {
    fn say(&mut self, type_url: &str) -> Bytes {
        if let Some(said) = self.said.get(type_url) {
            return said.clone();
        }
        let all = self.versions.get(type_url).into_iter().flatten();
        let said = wire::held(all.map(|(name, version)| (&**name, &**version)));
        self.said.insert(type_url.to_owned(), said.clone());
        said
    }
}

/// A client of the herd.
pub struct Client {
    pub index: usize,
    pub target: SocketAddr,
    pub service: String,
    pub tally: Arc<Tally>,
    pub holds: Holds,
}

impl Client {
    /// One connection with one stream, from its opening to its end. `resume`: tells what it holds.
    pub async fn follow(&self, resume: bool) -> io::Result<()> {
        let socket = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(self.target)).await??;
        socket.set_nodelay(true)?;
        let (sender, mut connection) = Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buffer_size(64 * 1024)
            .handshake::<_, Bytes>(socket)
            .await
            .map_err(io::Error::other)?;
        let exchange = self.exchange(sender, resume);
        tokio::pin!(exchange);
        tokio::select! {
            ended = &mut exchange => ended,
            ended = &mut connection => {
                ended.map_err(io::Error::other)?;
                Err(io::Error::other("the connection ended"))
            }
        }
    }

    async fn exchange(
        &self,
        sender: h2::client::SendRequest<Bytes>,
        resume: bool,
    ) -> io::Result<()> {
        let mut sender = sender.ready().await.map_err(io::Error::other)?;
        let request = http::Request::post(format!("http://{}{METHOD}", self.target))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(io::Error::other)?;
        let (response, mut requests) =
            sender.send_request(request, false).map_err(io::Error::other)?;
        self.ask(&mut requests, resume)?;
        let response = response.await.map_err(io::Error::other)?;
        if let Some(code) = response.headers().get("grpc-status") {
            return Err(io::Error::other(format!("refused with {code:?}")));
        }
        let synced = self.read(response.into_body(), &mut requests).await;
        self.tally.left(self.index);
        synced
    }

    /// The first requests.
    fn ask(&self, requests: &mut SendStream<Bytes>, resume: bool) -> io::Result<()> {
        let node = Node {
            id: format!("bench-{}", self.index),
            cluster: self.service.clone(),
            user_agent: "segue-sidecar",
        };
        let mut held = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        for (at, (type_url, subscribe)) in WANTED.into_iter().enumerate() {
            let holds = if resume { held.say(type_url) } else { Bytes::new() };
            let node = (at == 0).then_some(&node);
            let request = Request { node, type_url, subscribe, holds, nonce: "" };
            for piece in request.framed() {
                self.tally.sent(piece.len());
                requests.send_data(piece, false).map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    async fn read(&self, mut body: RecvStream, requests: &mut SendStream<Bytes>) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(io::Error::other)?;
            let _ = body.flow_control().release_capacity(chunk.len());
            self.tally.received(self.index, chunk.len());
            buffer.extend_from_slice(&chunk);
            let mut acks = BytesMut::new();
            while let Some(message) = next_message(&mut buffer)? {
                self.take(&message, &mut acks)?;
            }
            if buffer.is_empty() {
                // A large first snapshot leaves no large buffer behind.
                buffer = BytesMut::new();
            }
            if !acks.is_empty() {
                self.tally.sent(acks.len());
                requests.send_data(acks.freeze(), false).map_err(io::Error::other)?;
            }
        }
        let trailers = body.trailers().await.map_err(io::Error::other)?;
        let status = trailers.and_then(|all| all.get("grpc-status").cloned());
        Err(io::Error::other(format!("the stream ended: {status:?}")))
    }

    fn take(&self, message: &[u8], acks: &mut BytesMut) -> io::Result<()> {
        let broken = || io::Error::other("not a DeltaDiscoveryResponse");
        let answer = Answer::read(message).ok_or_else(broken)?;
        let ack = Request { type_url: answer.type_url, nonce: answer.nonce, ..Request::default() };
        acks.extend_from_slice(&ack.framed()[0]);
        if self.index == 0 {
            self.keep(&answer).ok_or_else(broken)?;
        }
        if answer.type_url == MARK {
            for resource in &answer.resources {
                let (_, _, mark) = wire::resource(resource).ok_or_else(broken)?;
                self.tally.marked(self.index, wire::mark_revision(mark).ok_or_else(broken)?);
            }
        }
        Ok(())
    }

    fn keep(&self, answer: &Answer<'_>) -> Option<()> {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.said.remove(answer.type_url);
        let of_type = holds.versions.entry(answer.type_url.to_owned()).or_default();
        for resource in &answer.resources {
            let (name, version, _) = wire::resource(resource)?;
            of_type.insert(name.to_owned(), version.to_owned());
        }
        for name in &answer.removed {
            of_type.remove(*name);
        }
        Some(())
    }
}

/// The next whole message of gRPC's framing.
fn next_message(buffer: &mut BytesMut) -> io::Result<Option<BytesMut>> {
    let Some(head) = buffer.get(..5) else { return Ok(None) };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if head[0] != 0 || length > MOST_MESSAGE_BYTES {
        return Err(io::Error::other("not a gRPC message"));
    }
    if buffer.len() < 5 + length {
        return Ok(None);
    }
    buffer.advance(5);
    Ok(Some(buffer.split_to(length)))
}
