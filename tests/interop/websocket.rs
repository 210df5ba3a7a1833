//! A WebSocket passes through a real Envoy on our control plane as it does through our sidecar.

use std::io::{self, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use segue_tests::mesh::Mesh;
use segue_tests::peers;
use segue_tests::wait;
use segue_tests::written::service;

use crate::alone;
use crate::envoy_process::{Envoy, FOLLOW_LIMIT, Variant};

const ASK: &[u8] = b"GET /ws HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const AGREED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                        Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[test]
fn a_websocket_passes_through_envoy_and_our_sidecar() {
    let Some(program) = peers::or_skip(peers::envoy()) else { return };
    let _turn = alone();
    let mut mesh = Mesh::start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || echo(stream));
        }
    });
    let sidecar = mesh.sidecar("caller-1").unwrap();
    mesh.apply(&service("chat", &[("v1", vec![upstream])])).unwrap();
    let envoy = Envoy::start(&mut mesh, &program, Variant::Delta).unwrap();
    for target in [envoy.outbound, sidecar.outbound] {
        let mut caller = wait::until("the switch is agreed to", FOLLOW_LIMIT, || {
            let mut caller = TcpStream::connect(target).ok()?;
            caller.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            caller.write_all(ASK).ok()?;
            let head = head(&mut caller).ok()?.to_ascii_lowercase();
            (head.starts_with("http/1.1 101 ") && head.contains("upgrade: websocket\r\n"))
                .then_some(caller)
        })
        .unwrap();
        for size in [1, 125, 126, 65_535, 65_536, 1_000_000] {
            let message = vec![0xff; size];
            let mut reader = caller.try_clone().unwrap();
            let reading = thread::spawn(move || {
                let mut all = vec![0; size];
                reader.read_exact(&mut all).map(|()| all)
            });
            caller.write_all(&message).unwrap();
            assert!(reading.join().unwrap().unwrap() == message, "{size} bytes");
        }
    }
    assert_eq!(envoy.complaints().unwrap(), "", "Envoy took everything");
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    while !head(&mut stream)?.to_ascii_lowercase().contains("upgrade: websocket") {
        stream.write_all(b"HTTP/1.1 200 OK\r\nx-version: v1\r\nContent-Length: 0\r\n\r\n")?;
    }
    stream.write_all(AGREED)?;
    io::copy(&mut stream.try_clone()?, &mut stream).map(drop)
}

fn head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
