//! WebSocket passes, and nothing else that asks for another protocol.
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

mod support;

use segue_sidecar_core::snapshot::HttpVersion;
use support::scripted::scripted;
use support::{Chat, plane, raw, until, upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: chat\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: WebSocket\r\nSec-WebSocket-Key: x\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n";

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(end.as_bytes()) {
        assert!(stream.read_buf(&mut all).await.unwrap() > 0, "{}", String::from_utf8_lossy(&all));
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn a_websocket_is_a_tunnel_once_the_upstream_agrees() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = plane(&Chat::http1(listener.local_addr().unwrap()));
    let mut caller = TcpStream::connect(plane.outbound).await.unwrap();
    // Bytes that come too early wait for the agreement.
    caller.write_all(format!("{ASK}GET /smuggled HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    let asked = read_until(&mut upstream, "\r\n\r\n").await;
    assert!(asked.contains("connection: upgrade\r\nupgrade: websocket\r\n"), "{asked}");
    assert!(asked.contains("sec-websocket-key: x\r\n") && !asked.contains("smuggled"), "{asked}");
    upstream.write_all(format!("{AGREED}hello").as_bytes()).await.unwrap();
    let agreed = read_until(&mut caller, "hello").await;
    assert!(agreed.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{agreed}");
    assert!(agreed.contains("connection: upgrade\r\nupgrade: websocket\r\n"), "{agreed}");
    assert!(agreed.contains("sec-websocket-accept: y\r\n"), "{agreed}");
    read_until(&mut upstream, "GET /smuggled HTTP/1.1\r\n\r\n").await;
    let totals = || plane.counters.all()[0].totals();
    assert_eq!(totals().in_flight, 1);
    for round in 0..100 {
        let message = format!("{round}{}", "\0\r\n\u{ff}".repeat(round * 50));
        caller.write_all(message.as_bytes()).await.unwrap();
        assert_eq!(read_until(&mut upstream, &message).await, message);
        upstream.write_all(message.as_bytes()).await.unwrap();
        assert_eq!(read_until(&mut caller, &message).await, message);
    }
    caller.shutdown().await.unwrap();
    assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0);
    upstream.write_all(b"bye").await.unwrap();
    drop(upstream);
    assert_eq!(read_until(&mut caller, "bye").await, "bye");
    until("the tunnel is over", || (totals().in_flight, totals().connections) == (0, 0)).await;
    assert_eq!((totals().classes[0], totals().failures), (1, 0));
}

#[tokio::test]
async fn bytes_behind_a_refused_switch_reach_nobody() {
    let upstream =
        scripted(|_, _| Some("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned())).await;
    let plane = plane(&Chat::http1(upstream.address));
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: chat\r\n\r\n";
    let answer = raw(plane.outbound, &format!("{ASK}{smuggled}")).await;
    assert!(answer.contains("connection: close\r\n\r\nok") && answer.ends_with("ok"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    until("the connection is closed", || upstream.seen()[0].closed).await;
    let seen = upstream.text(0);
    assert!(seen.contains("/ws") && !seen.contains("smuggled") && upstream.seen().len() == 1);
}

#[tokio::test]
async fn other_protocols_are_not_asked_for() {
    let upstream = upstream(HttpVersion::Http1).await;
    let plane = plane(&Chat::http1(upstream.address));
    for fields in [
        "Connection: upgrade\r\nUpgrade: foo\r\n",
        "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "Upgrade: websocket\r\n",
    ] {
        let ask = format!("GET /head HTTP/1.1\r\nHost: chat\r\n{fields}\r\n");
        let head = raw(plane.outbound, &ask).await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 ") && head.contains("host: chat"), "{head}");
        assert!(!head.contains("upgrade") && !head.contains("settings"), "{head}");
    }
}
