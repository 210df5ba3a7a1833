//! 2c: who asks for another protocol than WebSocket gets none, and bytes that come before an answer
//! are never taken for requests.

use crate::capture::{Capture, Plane};
use crate::judge::{Expected, Row, forwarded, judge, row, send};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: chat\r\n\r\n";

fn early(name: &'static str, lines: &str, expected: Expected) -> Row {
    row(name, format!("GET /a HTTP/1.1\r\nHost: chat\r\n{lines}\r\n{SMUGGLED}"), expected)
}

#[tokio::test]
async fn bytes_before_an_answer_are_no_requests() {
    let once = || forwarded("GET /a HTTP/1.1\nhost: chat");
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    let websocket_head = "GET /a HTTP/1.1\nhost: chat\nsec-websocket-version: 13\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\nconnection: upgrade\nupgrade: websocket";
    judge(
        vec![
            early("27 WebSocket with a request behind it", websocket, forwarded(websocket_head)),
            early("28 an unknown protocol", "Connection: Upgrade\r\nUpgrade: foo\r\n", once()),
            early(
                "28 h2c",
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
                once(),
            ),
            early("28 Upgrade that Connection does not list", "Upgrade: foo\r\n", once()),
        ],
        &[],
    )
    .await;
}

/// 27: an upstream that says 101 though nobody asked it to is broken, and its connection is not used
/// again.
#[tokio::test]
async fn an_upstream_cannot_change_the_protocol() {
    let upstream = Capture::answering(|request| {
        Some(if request.target() == "/second" {
            b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond".to_vec()
        } else {
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n\
              HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
                .to_vec()
        })
    })
    .await;
    let plane = Plane::start(upstream.address);
    let ask = "GET /a HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n";
    let seen = send(plane.outbound, ask.as_bytes()).await;
    assert_eq!(seen.status(), 502, "{}", seen.text());
    let ask = "GET /second HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n";
    let seen = send(plane.outbound, ask.as_bytes()).await;
    assert!(seen.text().ends_with("\r\n\r\nsecond"), "{}", seen.text());
}
