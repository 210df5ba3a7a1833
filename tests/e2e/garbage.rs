//! Garbage on both gRPC ports of the control plane: refused with a clear status, nothing grows, and
//! who behaves is served on.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use prost::Message as _;
use segue_tests::mesh::Mesh;
use segue_tests::written::service;
use tokio::runtime::Runtime;

use crate::alone;

const ADS: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const APPLY: &str = "segue.admin.v1.ConfigService/Apply";
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// What an allocator may keep of a burst. The garbage of one test is many times as much.
const MOST_GROWTH_KIB: u64 = 48 * 1024;

#[test]
fn garbage_is_refused_and_nothing_grows() {
    let _turn = alone();
    let mut mesh = Mesh::start().unwrap();
    let app = mesh.echo("v1").unwrap();
    let sidecar = mesh.sidecar("caller-1").unwrap();
    mesh.apply(&service("chat", &[("v1", vec![app.address])])).unwrap();
    let (xds, admin) = {
        let control_plane = mesh.control_plane();
        (control_plane.xds_address, control_plane.admin_address)
    };
    // The first garbage warms what is allocated once.
    throw_all(xds, admin);
    let before = resident_kib(mesh.control_plane().process_id()).unwrap();
    for _ in 0..5 {
        throw_all(xds, admin);
    }
    let after = resident_kib(mesh.control_plane().process_id()).unwrap();
    assert!(after < before + MOST_GROWTH_KIB, "from {before} KiB to {after} KiB");

    let more = mesh.echo("v2").unwrap();
    let grown = service("chat", &[("v1", vec![app.address]), ("v2", vec![more.address])]);
    mesh.apply(&grown).unwrap();
    sidecar.wait_ready().unwrap();
}

fn throw_all(xds: SocketAddr, admin: SocketAddr) {
    for port in [xds, admin] {
        for seed in 0..20 {
            closes_on(port, &noise(seed, 64 * 1024));
            let frames = [PREFACE, EMPTY_SETTINGS, &noise(seed, 16 * 1024)].concat();
            closes_on(port, &frames);
        }
        // A frame of 16 MiB that no setting allowed.
        let huge = [PREFACE, EMPTY_SETTINGS, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat();
        closes_on(port, &huge);
        // Headers without an end.
        closes_on(port, &endless_headers());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (port, path) in [(xds, ADS), (admin, APPLY)] {
        // Larger than any message, as it says itself.
        let claims = [0, 0xff, 0xff, 0xff, 0xff];
        refused(&runtime, port, path, &claims, &[8, 11]);
        // Large indeed: 5 MiB.
        refused(&runtime, port, path, &framed(&noise(1, 5 << 20)), &[8, 11]);
        // No protobuf: invalid argument or internal, as gRPC implementations say it.
        refused(&runtime, port, path, &framed(&noise(2, 4096)), &[3, 13]);
        // Compressed with nothing that was agreed on.
        refused(&runtime, port, path, &[1, 0, 0, 0, 1, 0], &[12, 13]);
        refused(&runtime, port, "no.such.Service/Method", &framed(&[]), &[12]);
    }
    refused(&runtime, xds, ADS, &framed(&deep(5_000)), &[3, 13]);
    let nameless = DeltaDiscoveryRequest { type_url: "x".to_owned(), ..Default::default() };
    refused(&runtime, xds, ADS, &framed(&nameless.encode_to_vec()), &[3]);
    let typeless = DeltaDiscoveryRequest { node: Some(node(None)), ..Default::default() };
    refused(&runtime, xds, ADS, &framed(&typeless.encode_to_vec()), &[3]);
    for yaml in ["[".repeat(100_000), "a: &a [*a, *a]".to_owned(), "{a: ".repeat(100_000)] {
        refused(&runtime, admin, APPLY, &framed(&apply(&yaml)), &[3]);
    }
}

/// The server ends the connection, or answers nothing and is let go.
fn closes_on(port: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(port).unwrap();
    stream.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
    // It may close while this is written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.take(1 << 20).read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert!(
            matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
            "{port} keeps the connection: {error}"
        ),
    }
}

/// One call ends with one of these status codes of gRPC.
fn refused(runtime: &Runtime, port: SocketAddr, path: &str, body: &[u8], codes: &[u32]) {
    let call = async {
        let socket = tokio::net::TcpStream::connect(port).await.map_err(io::Error::other)?;
        let (sender, connection) = h2::client::handshake(socket).await.map_err(io::Error::other)?;
        let driver = tokio::spawn(connection);
        let mut sender = sender.ready().await.map_err(io::Error::other)?;
        let request = http::Request::post(format!("http://{port}/{path}"))
            .header("content-type", "application/grpc")
            .header("grpc-encoding", "identity")
            .header("te", "trailers")
            .body(())
            .map_err(io::Error::other)?;
        let (response, mut requests) =
            sender.send_request(request, false).map_err(io::Error::other)?;
        // Only what is no stream is answered at its end.
        let ended = path == APPLY;
        requests.send_data(Bytes::copy_from_slice(body), ended).map_err(io::Error::other)?;
        let response = response.await.map_err(io::Error::other)?;
        let status = |headers: &http::HeaderMap| {
            headers.get("grpc-status").and_then(|code| code.to_str().ok()?.parse::<u32>().ok())
        };
        let mut code = status(response.headers());
        let mut body = response.into_body();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(io::Error::other)?;
            let _ = body.flow_control().release_capacity(chunk.len());
        }
        let trailers = body.trailers().await.map_err(io::Error::other)?;
        code = code.or_else(|| trailers.as_ref().and_then(status));
        driver.abort();
        Ok::<_, io::Error>(code)
    };
    let ended = runtime.block_on(async { tokio::time::timeout(ANSWER_LIMIT, call).await });
    let code = ended.unwrap_or_else(|_| panic!("{path} on {port}: no answer")).unwrap();
    assert!(
        code.is_some_and(|code| codes.contains(&code)),
        "{path} on {port}: status {code:?} where one of {codes:?} is due"
    );
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// An `ApplyRequest` with one file.
fn apply(yaml: &str) -> Vec<u8> {
    use segue_proto::admin::v1::{ApplyRequest, SourceFile};
    let file = SourceFile { name: "garbage.yaml".to_owned(), content: yaml.to_owned() };
    ApplyRequest { files: vec![file], ..ApplyRequest::default() }.encode_to_vec()
}

fn node(metadata: Option<Struct>) -> Node {
    Node { id: "garbage".to_owned(), metadata, ..Node::default() }
}

/// A request whose node has metadata nested this deep.
fn deep(levels: usize) -> Vec<u8> {
    // By hand from the inside out: building and encoding such a value would recurse itself.
    let mut inner = Value { kind: Some(Kind::BoolValue(true)) }.encode_to_vec();
    let wrap = |tag: u8, inner: &[u8]| {
        let mut outer = vec![tag << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut outer);
        outer.extend_from_slice(inner);
        outer
    };
    for _ in 0..levels {
        // Value{list_value: ListValue{values: [inner]}}
        inner = wrap(6, &wrap(1, &inner));
    }
    let entry = [wrap(1, b"a"), wrap(2, &inner)].concat();
    let metadata = wrap(1, &entry);
    let node = [wrap(1, b"garbage"), wrap(3, &metadata)].concat();
    wrap(1, &node)
}

fn endless_headers() -> Vec<u8> {
    let mut bytes = [PREFACE, EMPTY_SETTINGS].concat();
    // HEADERS without END_HEADERS, then CONTINUATION without an end; never-indexed literals.
    let field = [&[0x10, 1, b'a', 126][..], &[b'b'; 126]].concat();
    let block = field.repeat(120);
    let frame = |kind: u8| {
        let length = u32::try_from(block.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], &block[..]].concat()
    };
    bytes.extend(frame(1));
    for _ in 0..200 {
        bytes.extend(frame(9));
    }
    bytes
}

/// The same noise for the same seed (xorshift).
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ (seed + 1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn resident_kib(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other("no VmRSS"))
}
