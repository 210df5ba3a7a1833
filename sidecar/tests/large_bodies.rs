//! Large bodies over HTTP/1.1, which pass without being copied: every byte once, in its place, whoever
//! is slow and whoever breaks off.

mod support;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use support::{Chat, plane};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

const LENGTH: usize = 3_000_017;
const LONG: usize = 200_000_000;

/// Bytes that tell where in the body they belong.
fn pattern(length: usize) -> Vec<u8> {
    let word = |place: usize| (place as u32).wrapping_mul(2_654_435_761).to_be_bytes();
    (0..length.div_ceil(4)).flat_map(word).take(length).collect()
}

/// How a side writes, and what it does before it reads.
#[derive(Clone, Copy)]
struct Pace {
    piece: usize,
    rest: Duration,
}

const PACES: [Pace; 4] = [
    Pace { piece: LENGTH, rest: Duration::ZERO },
    Pace { piece: 300_007, rest: Duration::from_millis(1) },
    Pace { piece: 65_537, rest: Duration::ZERO },
    Pace { piece: 1_999, rest: Duration::ZERO },
];

#[allow(clippy::unwrap_used)] // A helper of tests, which the lint does not know.
async fn write(stream: &mut TcpStream, bytes: &[u8], pace: Pace) {
    for piece in bytes.chunks(pace.piece) {
        stream.write_all(piece).await.unwrap();
        if pace.rest.is_zero() {
            tokio::task::yield_now().await;
        } else {
            sleep(pace.rest).await;
        }
    }
}

/// The bytes up to the end of a head, and those behind it that came along.
#[allow(clippy::unwrap_used)]
async fn head(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut all = Vec::new();
    loop {
        assert_ne!(stream.read_buf(&mut all).await.unwrap(), 0, "closed within a head");
        if let Some(end) = all.windows(4).position(|it| it == b"\r\n\r\n") {
            let behind = all.split_off(end + 4);
            return (String::from_utf8(all).unwrap(), behind);
        }
    }
}

#[allow(clippy::unwrap_used)]
async fn message(stream: &mut TcpStream, pace: Pace) -> Vec<u8> {
    let (_, mut body) = head(stream).await;
    sleep(pace.rest * 50).await;
    let have = body.len();
    body.resize(LENGTH, 0);
    stream.read_exact(&mut body[have..]).await.unwrap();
    body
}

/// An upstream that reads a whole request and sends its body back, as often as it is asked.
#[allow(clippy::unwrap_used)]
async fn mirror(pace: Pace) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        loop {
            let body = message(&mut stream, pace).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            write(&mut stream, &body, pace).await;
        }
    });
    address
}

fn post() -> String {
    format!("POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: {LENGTH}\r\n\r\n")
}

#[tokio::test]
async fn every_byte_arrives_in_its_place_at_any_pace() {
    let sent = pattern(LENGTH);
    for (caller_pace, upstream_pace) in PACES.into_iter().zip(PACES.into_iter().rev()) {
        let plane = plane(&Chat::http1(mirror(upstream_pace).await));
        let mut caller = TcpStream::connect(plane.outbound).await.unwrap();
        // The connections serve the next request as well.
        for _ in 0..2 {
            caller.write_all(post().as_bytes()).await.unwrap();
            write(&mut caller, &sent, caller_pace).await;
            let back = message(&mut caller, caller_pace).await;
            assert!(back == sent, "{} and {}", caller_pace.piece, upstream_pace.piece);
        }
    }
}

#[tokio::test]
async fn a_caller_that_breaks_off_leaves_no_whole_request_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = plane(&Chat::http1(listener.local_addr().unwrap()));
    let mut caller = TcpStream::connect(plane.outbound).await.unwrap();
    let sent = pattern(LENGTH);
    caller.write_all(post().as_bytes()).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    let rest = tokio::spawn(async move {
        let (_, mut body) = head(&mut upstream).await;
        // An end or a reset, but not the rest.
        let _ = upstream.read_to_end(&mut body).await;
        body
    });
    caller.write_all(&sent[..2_000_000]).await.unwrap();
    drop(caller);
    let body = rest.await.unwrap();
    assert!(body.len() <= 2_000_000, "{} bytes of what was never sent", body.len());
    assert!(body == sent[..body.len()]);
}

#[tokio::test]
async fn an_upstream_that_breaks_off_is_no_end_of_an_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = plane(&Chat::http1(listener.local_addr().unwrap()));
    let mut caller = TcpStream::connect(plane.outbound).await.unwrap();
    caller.write_all(b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n").await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    head(&mut upstream).await;
    let sent = pattern(LENGTH);
    let head_sent = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
    upstream.write_all(head_sent.as_bytes()).await.unwrap();
    let (_, mut body) = head(&mut caller).await;
    let writing = tokio::spawn(async move {
        upstream.write_all(&sent[..2_000_000]).await.unwrap();
        sent
    });
    match caller.read_to_end(&mut body).await {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    let sent = writing.await.unwrap();
    assert!(body.len() <= 2_000_000 && body == sent[..body.len()], "{} bytes", body.len());
}

#[tokio::test]
async fn a_caller_that_does_not_read_holds_the_upstream_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = plane(&Chat::http1(listener.local_addr().unwrap()));
    let mut caller = TcpStream::connect(plane.outbound).await.unwrap();
    caller.write_all(b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n").await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    head(&mut upstream).await;
    let head_sent = format!("HTTP/1.1 200 OK\r\ncontent-length: {LONG}\r\n\r\n");
    upstream.write_all(head_sent.as_bytes()).await.unwrap();
    let piece = vec![0; 1_000_000];
    let mut taken = 0;
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(500), upstream.write(&piece)).await
    {
        taken += written.unwrap();
        assert!(taken < LONG, "nobody read any of it");
    }
    // Buffers of the kernel, and one pipe.
    assert!(taken < 40_000_000, "{taken} bytes went nowhere");
    drop(upstream);
    let mut body = Vec::new();
    let _ = caller.read_to_end(&mut body).await;
    assert!(body.len() < taken + head_sent.len() + 200, "no more than was sent");
}
