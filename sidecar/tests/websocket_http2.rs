//! WebSocket over HTTP/2 (RFC 8441), with callers and upstreams of either version.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail so")]

mod support;

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::header::{HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use segue_sidecar::websocket;
use support::{Chat, Plane, plane, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Both directions of a tunnel over HTTP/2.
struct Stream {
    receive: RecvStream,
    send: SendStream<Bytes>,
}

impl Stream {
    fn say(&mut self, bytes: impl Into<Bytes>) {
        self.send.send_data(bytes.into(), false).unwrap();
    }

    async fn hear(&mut self, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            let piece = self.receive.data().await.unwrap().unwrap();
            self.receive.flow_control().release_capacity(piece.len()).unwrap();
            all.extend(piece);
        }
        all
    }

    /// Ends this side, and hears the other one end.
    async fn end(mut self) {
        self.send.send_data(Bytes::new(), true).unwrap();
        self.hear_end().await;
    }

    async fn hear_end(&mut self) {
        while let Some(piece) = self.receive.data().await {
            assert!(piece.unwrap().is_empty());
        }
    }
}

async fn http2(outbound: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(outbound).await.unwrap();
    let (sender, driver) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(driver);
    let mut sender = sender.ready().await.unwrap();
    until("extended CONNECT is announced", || sender.is_extended_connect_protocol_enabled()).await;
    sender = sender.ready().await.unwrap();
    sender
}

fn connect(protocol: &'static str) -> Request<()> {
    let mut request = Request::builder().method(Method::CONNECT).uri("http://chat/ws?a=b");
    request =
        request.header("sec-websocket-version", "13").header("sec-websocket-protocol", "soap");
    if !protocol.is_empty() {
        request = request.extension(Protocol::from_static(protocol));
    }
    request.body(()).unwrap()
}

/// An upstream of HTTP/1.1 that has read a head.
struct Http1Upstream {
    stream: TcpStream,
    head: String,
}

impl Http1Upstream {
    async fn of(listener: &TcpListener) -> Self {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut head).await.unwrap() > 0);
        }
        Self { stream, head: String::from_utf8(head).unwrap() }
    }

    /// What agrees with the key that it was asked with.
    fn accept(&self) -> HeaderValue {
        let key = self.head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: "));
        let key = HeaderValue::from_str(key.unwrap()).unwrap();
        websocket::take_key(&mut HeaderMap::from_iter([(SEC_WEBSOCKET_KEY, key)])).unwrap()
    }

    async fn agree(&mut self, accept: &HeaderValue) {
        let accept = accept.to_str().unwrap();
        let agreed = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: soap\r\n\r\n"
        );
        self.stream.write_all(agreed.as_bytes()).await.unwrap();
    }
}

/// An upstream of HTTP/2, on its first connection.
async fn http2_upstream(
    listener: TcpListener,
    knows_websocket: bool,
) -> Option<(Request<RecvStream>, h2::server::SendResponse<Bytes>)> {
    let (stream, _) = listener.accept().await.unwrap();
    let mut builder = h2::server::Builder::new();
    if knows_websocket {
        builder.enable_connect_protocol();
    }
    let mut connection = builder.handshake(stream).await.unwrap();
    let asked = connection.accept().await?.unwrap();
    tokio::spawn(async move { while connection.accept().await.is_some() {} });
    Some(asked)
}

async fn over(plane: &Plane) {
    let totals = || plane.counters.all()[0].totals();
    until("the tunnel is over", || totals().in_flight == 0).await;
    assert_eq!((totals().classes[0], totals().failures), (1, 0));
}

#[tokio::test]
async fn a_caller_of_http2_reaches_an_upstream_of_http1() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = plane(&Chat::http1(listener.local_addr().unwrap()));
    let mut sender = http2(plane.outbound).await;
    let (answer, mut send) = sender.send_request(connect("websocket"), false).unwrap();
    send.send_data("early".into(), false).unwrap();
    let mut upstream = Http1Upstream::of(&listener).await;
    let head = &upstream.head;
    assert!(head.starts_with("GET /ws?a=b HTTP/1.1\r\n"), "{head}");
    for line in
        ["host: chat", "connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13"]
    {
        assert!(head.contains(&format!("{line}\r\n")), "{head}");
    }
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    upstream.agree(&upstream.accept()).await;
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "soap");
    for gone in ["sec-websocket-accept", "connection", "upgrade"] {
        assert!(!answer.headers().contains_key(gone), "{gone}");
    }
    let mut early = [0; 5];
    upstream.stream.read_exact(&mut early).await.unwrap();
    assert_eq!(&early, b"early");
    let mut caller = Stream { receive: answer.into_body(), send };
    let large = vec![7; 1_000_000];
    upstream.stream.write_all(b"hello").await.unwrap();
    assert_eq!(caller.hear(5).await, b"hello");
    let echo = async {
        let mut all = vec![0; large.len()];
        upstream.stream.read_exact(&mut all).await.unwrap();
        upstream.stream.write_all(&all).await.unwrap();
        assert_eq!(upstream.stream.read(&mut [0]).await.unwrap(), 0, "the caller has ended");
    };
    let talk = async {
        caller.say(large.clone());
        assert!(caller.hear(large.len()).await == large);
        caller.send.send_data(Bytes::new(), true).unwrap();
    };
    tokio::join!(echo, talk);
    upstream.stream.write_all(b"bye").await.unwrap();
    drop(upstream);
    assert_eq!(caller.hear(3).await, b"bye");
    caller.hear_end().await;
    over(&plane).await;
}

#[tokio::test]
async fn a_caller_of_http1_reaches_an_upstream_of_http2() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = plane(&Chat::http2(listener.local_addr().unwrap()));
    let mut caller = TcpStream::connect(plane.outbound).await.unwrap();
    let ask = "GET /ws HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
               Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    caller.write_all(format!("{ask}early").as_bytes()).await.unwrap();
    let (request, mut respond) = http2_upstream(listener, true).await.unwrap();
    assert_eq!(request.method(), Method::CONNECT);
    assert_eq!(request.uri(), "http://chat/ws");
    assert_eq!(request.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
    assert_eq!(request.headers()["sec-websocket-version"], "13");
    assert!(!request.headers().contains_key(SEC_WEBSOCKET_KEY));
    let send = respond.send_response(Response::new(()), false).unwrap();
    let mut upstream = Stream { receive: request.into_body(), send };
    assert_eq!(upstream.hear(5).await, b"early");
    upstream.say("hello");
    let mut all = Vec::new();
    while !all.ends_with(b"hello") {
        assert!(caller.read_buf(&mut all).await.unwrap() > 0);
    }
    let head = String::from_utf8(all).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    // The example of RFC 6455 section 1.3.
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    caller.shutdown().await.unwrap();
    upstream.end().await;
    assert_eq!(caller.read(&mut [0]).await.unwrap(), 0);
    over(&plane).await;
}

#[tokio::test]
async fn both_may_speak_http2() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = plane(&Chat::http2(listener.local_addr().unwrap()));
    let mut sender = http2(plane.outbound).await;
    let (answer, send) = sender.send_request(connect("websocket"), false).unwrap();
    let (request, mut respond) = http2_upstream(listener, true).await.unwrap();
    let up = respond.send_response(Response::new(()), false).unwrap();
    let mut upstream = Stream { receive: request.into_body(), send: up };
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!answer.headers().contains_key(SEC_WEBSOCKET_ACCEPT));
    let mut caller = Stream { receive: answer.into_body(), send };
    caller.say("ping");
    assert_eq!(upstream.hear(4).await, b"ping");
    upstream.say("pong");
    assert_eq!(caller.hear(4).await, b"pong");
    let (ours, theirs) = (caller.end(), upstream.end());
    tokio::join!(ours, theirs);
    over(&plane).await;
}

#[tokio::test]
async fn a_refusal_is_an_answer_like_any_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = plane(&Chat::http1(listener.local_addr().unwrap()));
    let mut sender = http2(plane.outbound).await;
    let (answer, mut send) = sender.send_request(connect("websocket"), false).unwrap();
    send.send_data("GET /smuggled HTTP/1.1\r\n\r\n".into(), false).unwrap();
    let mut upstream = Http1Upstream::of(&listener).await;
    let no = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    upstream.stream.write_all(no).await.unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(upstream.stream.read(&mut [0]).await.unwrap(), 0, "nothing went, and it is closed");
}

#[tokio::test]
async fn an_upstream_that_does_not_prove_it_is_not_believed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = plane(&Chat::http1(listener.local_addr().unwrap()));
    let mut sender = http2(plane.outbound).await;
    let (answer, _send) = sender.send_request(connect("websocket"), false).unwrap();
    let mut upstream = Http1Upstream::of(&listener).await;
    upstream.agree(&HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")).await;
    assert_eq!(answer.await.unwrap().status(), StatusCode::BAD_GATEWAY);
    assert_eq!(plane.counters.refusals()["upstream_malformed"], 1);
}

#[tokio::test]
async fn an_upstream_without_websocket_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = plane(&Chat::http2(listener.local_addr().unwrap()));
    let mut sender = http2(plane.outbound).await;
    let (answer, _send) = sender.send_request(connect("websocket"), false).unwrap();
    tokio::spawn(http2_upstream(listener, false));
    assert_eq!(answer.await.unwrap().status(), StatusCode::BAD_GATEWAY);
    assert_eq!(plane.counters.refusals()["upstream_no_websocket"], 1);
}

#[tokio::test]
async fn other_protocols_and_plain_tunnels_are_not_for_here() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = plane(&Chat::http1(listener.local_addr().unwrap()));
    let mut sender = http2(plane.outbound).await;
    for protocol in ["connect-udp", ""] {
        let (answer, _send) = sender.send_request(connect(protocol), false).unwrap();
        let status = answer.await.unwrap().status();
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{protocol:?}");
    }
}
