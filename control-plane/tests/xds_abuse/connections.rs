//! Connections that say nothing, take nothing, or are too many.

use std::time::Duration;

use prost::Message as _;
use segue_control_plane::xds::Settings;
use segue_shared::xds_names::type_urls::CLUSTER;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;
use tonic::Code;

use crate::support::{PATIENCE, Server, Sidecar, asks};

/// What a client begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames (RFC 9113, 6).
mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const SETTINGS: u8 = 4;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

const END_HEADERS: u8 = 4;

fn head(length: usize, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
    let mut head = u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
    head.extend([kind, flags]);
    head.extend(stream.to_be_bytes());
    head
}

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    [&head(content.len(), kind, flags, stream), content].concat()
}

/// A header field whose name is one of HPACK's static ones, by its number (RFC 7541, 6.2.2).
fn field(number: u8, value: &str) -> Vec<u8> {
    let number = if number < 15 { vec![number] } else { vec![15, number - 15] };
    [number, vec![u8::try_from(value.len()).unwrap()], value.as_bytes().to_vec()].concat()
}

/// What a client writes that asks for all clusters and has room for whatever comes.
fn wants_everything() -> Vec<u8> {
    let request = asks("full", CLUSTER).encode_to_vec();
    let length = u32::try_from(request.len()).unwrap().to_be_bytes();
    let path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
    // `:method: POST` and `:scheme: http`, then those with a value of their own.
    let headers =
        [&[0x83, 0x86][..], &field(4, path), &field(1, "a"), &field(31, "application/grpc")];
    let most = 0x7fff_ffff_u32.to_be_bytes();
    let window = [&[0, 4][..], &most].concat();
    let more = 0x7fff_0000_u32.to_be_bytes();
    [
        PREFACE,
        &frame(kind::SETTINGS, 0, 0, &window),
        &frame(kind::WINDOW_UPDATE, 0, 0, &more),
        &frame(kind::HEADERS, END_HEADERS, 1, &headers.concat()),
        &frame(kind::DATA, 0, 1, &[&[0][..], &length, &request].concat()),
    ]
    .concat()
}

/// Reads until the server closes; how much there was.
async fn closed(mut peer: TcpStream) -> usize {
    let mut told = Vec::new();
    let end = tokio::time::timeout(PATIENCE, peer.read_to_end(&mut told)).await;
    // An error is an end as well.
    let _ = end.expect("never closed");
    told.len()
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_begin_is_closed_and_others_are_not() {
    let server = Server::with(1, Settings::default());
    let mut sidecar = server.sidecar("quiet").await;
    assert_eq!(sidecar.heard().await, 1);
    for said in [&b""[..], &PREFACE[..10], PREFACE] {
        let mut peer = TcpStream::connect(server.address).await.unwrap();
        peer.write_all(said).await.unwrap();
        let begin = Instant::now();
        closed(peer).await;
        let waited = begin.elapsed();
        assert!(waited >= Duration::from_secs(10), "{waited:?} after {said:?}");
        assert!(waited < Duration::from_secs(11), "{waited:?} after {said:?}");
    }
    server.publish(2, 2);
    assert_eq!(sidecar.heard().await, 1, "who has begun may be quiet");
    drop(sidecar);
    server.forgotten().await;
}

/// HTTP/2 lets the server send on, and the client's machine does not.
#[tokio::test]
async fn a_client_whose_buffers_are_full_is_cut() {
    // Buffers of this size hold little, and those of our HTTP/2 half a megabyte more.
    let ours = TcpSocket::new_v4().unwrap();
    ours.set_send_buffer_size(16 * 1024).unwrap();
    ours.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let settings = Settings { xds_stalled_seconds: 2, ..Settings::default() };
    let server = Server::on(ours.listen(8).unwrap(), 10_000, settings);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut peer = socket.connect(server.address).await.unwrap();
    peer.write_all(&wants_everything()).await.unwrap();
    server.until("it stands still", |metrics| metrics.stalled.get() == 1).await;
    server.until("it is cut", |metrics| metrics.endings("stalled") == 1).await;
    let cut = Instant::now();
    server.forgotten().await;
    // Keepalive would come to it too, much later.
    assert!(cut.elapsed() < Duration::from_secs(15), "{:?}", cut.elapsed());
    // One cut is enough, and told once.
    assert_eq!(server.metrics.endings("stalled"), 1);
    drop(peer);
}

#[tokio::test]
async fn one_address_has_its_share_of_connections_and_of_streams() {
    let settings = Settings {
        xds_max_connections_per_address: Some(1),
        xds_max_streams_per_address: Some(2),
        ..Settings::default()
    };
    let server = Server::with(1, settings);
    let channel = server.channel().await;
    closed(TcpStream::connect(server.address).await.unwrap()).await;
    let open = || Sidecar::open(channel.clone());
    let streams = [open().await.unwrap(), open().await.unwrap()];
    let third = open().await.map(|_| ()).unwrap_err();
    assert_eq!(third.code(), Code::ResourceExhausted);
    assert!(third.message().contains("--xds-max-streams-per-address"), "{third}");
    assert_eq!(server.metrics.refusals("streams_of_address"), 1);
    drop((streams, channel));
    server.forgotten().await;
    let channel = server.channel().await;
    Sidecar::open(channel).await.unwrap();
}

/// A proxy on this machine may stand for many.
#[tokio::test]
async fn loopback_has_no_share_unless_it_is_set() {
    let settings = Settings { xds_max_connections: 4, xds_max_streams: 4, ..Settings::default() };
    let server = Server::with(1, settings);
    let mut all = Vec::new();
    for id in ["a", "b", "c", "d"] {
        let mut sidecar = server.sidecar(id).await;
        assert_eq!(sidecar.heard().await, 1);
        all.push(sidecar);
    }
    closed(TcpStream::connect(server.address).await.unwrap()).await;
}

#[tokio::test]
async fn what_is_no_grpc_is_closed() {
    let server = Server::with(1, Settings::default());
    let noise: Vec<u8> =
        (0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let settings = frame(kind::SETTINGS, 0, 0, &[]);
    // A header block that goes on for ever, one frame after the other.
    let endless = {
        let mut all =
            [PREFACE, &settings, &frame(kind::HEADERS, 0, 1, &[0x82, 0x86, 0x84])].concat();
        for _ in 0..64 {
            let field = [&[0x40, 1, b'a', 0x7f, 0x81, 0x7e][..], &[b'x'; 16_000]].concat();
            all.extend(frame(kind::CONTINUATION, 0, 1, &field));
        }
        all
    };
    for garbage in [
        noise.clone(),
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        [PREFACE, &noise].concat(),
        [PREFACE, &settings, &head(0x00ff_ffff, kind::DATA, 0, 1)].concat(),
        endless,
    ] {
        let mut peer = TcpStream::connect(server.address).await.unwrap();
        // The server may close before all is written.
        let _ = peer.write_all(&garbage).await;
        let mut told = Vec::new();
        let end = tokio::time::timeout(PATIENCE, peer.read_to_end(&mut told)).await;
        assert!(end.is_ok(), "not closed after {:?}…", &garbage[..32]);
    }
    server.forgotten().await;
}
