//! From one sidecar to the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use segue_sidecar::http::Door;
use segue_sidecar::settings::AppProtocol;
use segue_sidecar::tls::{End, Mesh};
use segue_sidecar_core::snapshot::{HttpVersion, InboundMtls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::authority::{Authority, towards};
use crate::support::{BIG, Caller, Chat, Plane, plane_in, read, streamed, until, upstream, whole};

pub fn strict() -> Door {
    Door { mtls: Some(InboundMtls::Strict), ..Door::default() }
}

/// The sidecar of `chat`, in front of its application.
pub fn called(mesh: Mesh, app: (SocketAddr, AppProtocol), door: Door) -> Plane {
    plane_in(mesh, &Chat::http1(app.0), Some(app), door)
}

/// The sidecar of `web`, which calls `chat` at this address.
pub fn calling(mesh: Mesh, http: HttpVersion, address: SocketAddr) -> Plane {
    let chat = Chat { http, tls: Some(towards("chat")), ..Chat::http1(address) };
    plane_in(mesh, &chat, None, Door::default())
}

pub fn handshakes(mesh: &Mesh, end: End, kind: &str) -> u64 {
    let told = mesh.handshakes.successes();
    told.filter(|told| told.end == end && told.what == kind).map(|told| told.count).sum()
}

pub fn refusals(mesh: &Mesh, reason: &str) -> u64 {
    let told = mesh.handshakes.refusals();
    told.iter().filter(|told| told.what == reason).map(|told| told.count).sum()
}

#[tokio::test]
async fn requests_of_either_protocol_reach_the_other_side_encrypted() {
    let authority = Authority::new();
    let app = upstream(HttpVersion::Http1).await;
    let (chat, web) = (authority.member("chat"), authority.member("web"));
    let server = called(chat.clone(), (app.address, AppProtocol::Auto), strict());
    for hop in [HttpVersion::Http2, HttpVersion::Http1] {
        let client = calling(web.clone(), hop, server.inbound.unwrap());
        for http in [HttpVersion::Http1, HttpVersion::Http2] {
            let mut caller = Caller::connect(http, client.outbound).await;
            let (status, head) = caller.get("/head").await;
            assert_eq!(status, StatusCode::OK);
            assert!(head.contains("x-forwarded-proto: "), "{head}");
            let echoed = caller.send("POST", "/echo", whole("hello")).await;
            assert_eq!(read(echoed).await, "hello");
            let counted = caller.send("POST", "/count", streamed(BIG)).await;
            assert_eq!(read(counted).await, BIG.to_string());
            let big = read(caller.send("GET", "/big", whole("")).await).await;
            assert_eq!(big.len(), BIG);
        }
    }
    assert!(handshakes(&chat, End::Server, "full") >= 2);
    assert_eq!(refusals(&chat, "plain_text"), 0);
    assert!(web.handshakes.refusals().is_empty() && chat.handshakes.refusals().is_empty());
}

#[tokio::test]
async fn many_requests_share_one_connection_and_later_ones_resume_its_session() {
    let authority = Authority::new();
    let app = upstream(HttpVersion::Http1).await;
    let (chat, web) = (authority.member("chat"), authority.member("web"));
    let server = called(chat.clone(), (app.address, AppProtocol::Auto), strict());
    for turn in 0..3 {
        let client = calling(web.clone(), HttpVersion::Http2, server.inbound.unwrap());
        let callers = (0..20).map(|_| async {
            let mut caller = Caller::connect(HttpVersion::Http1, client.outbound).await;
            for _ in 0..5 {
                assert_eq!(caller.get("/").await, (StatusCode::OK, "hello".to_owned()));
            }
        });
        futures_util::future::join_all(callers).await;
        client.drain.cancel();
        // Both workers of the first one may have begun at the same moment.
        let full = handshakes(&web, End::Client, "full");
        assert!(full <= 2, "turn {turn}: {full} full handshakes");
    }
    assert!(handshakes(&web, End::Client, "resumed") >= 2);
    assert_eq!(handshakes(&web, End::Client, "resumed"), handshakes(&chat, End::Server, "resumed"));
}

#[tokio::test]
async fn a_service_that_speaks_no_http_is_reached_as_well() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    let chat = authority.member("chat");
    let server = called(chat, (app, AppProtocol::Tcp), strict());
    let client = calling(authority.member("web"), HttpVersion::Http1, server.inbound.unwrap());
    let mut stream = TcpStream::connect(client.outbound).await.unwrap();
    stream.write_all(b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n").await.unwrap();
    let mut head = [0; 512];
    let length = stream.read(&mut head).await.unwrap();
    assert!(head[..length].starts_with(b"HTTP/1.1 200"), "{:?}", &head[..length]);
    let sent: Vec<u8> = (0..1_000_000u32).map(|i| i as u8).collect();
    let (mut from, mut to) = stream.split();
    let sending = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let ((), read) = tokio::join!(sending, from.read_to_end(&mut received));
    read.unwrap();
    assert!(received == sent);
}

/// A new certificate is a matter of new connections: nothing that runs sees it.
#[tokio::test]
async fn certificates_change_under_load_and_nobody_notices() {
    let authority = Authority::new();
    let app = upstream(HttpVersion::Http1).await;
    let (chat, web) = (authority.member("chat"), authority.member("web"));
    let server = called(chat.clone(), (app.address, AppProtocol::Auto), strict());
    let inbound = server.inbound.unwrap();
    let clients: Arc<[Plane]> = [HttpVersion::Http1, HttpVersion::Http2]
        .map(|http| calling(web.clone(), http, inbound))
        .into();
    let rotating = async {
        for _ in 0..100 {
            chat.become_known_as(authority.identity("chat"));
            web.become_known_as(authority.identity("web"));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let end = tokio::time::Instant::now() + Duration::from_secs(1);
    let mut load = Vec::new();
    for i in 0..40 {
        let clients = Arc::clone(&clients);
        load.push(tokio::spawn(async move {
            let http = if i % 2 == 0 { HttpVersion::Http1 } else { HttpVersion::Http2 };
            let mut caller = Caller::connect(http, clients[i / 2 % 2].outbound).await;
            let mut served = 0;
            while tokio::time::Instant::now() < end {
                assert_eq!(caller.get("/").await, (StatusCode::OK, "hello".to_owned()));
                served += 1;
            }
            served
        }));
    }
    rotating.await;
    let mut served = 0;
    for caller in load {
        served += caller.await.unwrap();
    }
    assert!(served > 100, "{served}");
    assert!(web.handshakes.refusals().is_empty(), "{:?}", web.handshakes.refusals());
    assert!(chat.handshakes.refusals().is_empty(), "{:?}", chat.handshakes.refusals());
    until("all requests are over", || app.requests() >= served).await;
}
