//! `CONNECT`: the way to services that speak no HTTP.
#![allow(clippy::unwrap_used, reason = "a test may fail so")]

mod support;

use std::net::SocketAddr;

use segue_sidecar_core::snapshot::PoolLimits;
use support::{Chat, plane, raw, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const ASK: &str = "CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n";
const AGREED: &str = "HTTP/1.1 200 OK\r\n\r\n";

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(end.as_bytes()) {
        assert!(stream.read_buf(&mut all).await.unwrap() > 0, "{}", String::from_utf8_lossy(&all));
    }
    String::from_utf8(all).unwrap()
}

async fn tunnel(outbound: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut caller = TcpStream::connect(outbound).await.unwrap();
    caller.write_all(ASK.as_bytes()).await.unwrap();
    let (upstream, _) = listener.accept().await.unwrap();
    assert_eq!(read_until(&mut caller, AGREED).await, AGREED);
    (caller, upstream)
}

#[tokio::test]
async fn a_tunnel_passes_what_is_said_and_ends_one_side_at_a_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = plane(&Chat::http1(listener.local_addr().unwrap()));
    let (mut caller, mut upstream) = tunnel(plane.outbound, &listener).await;
    // The server speaks first, as those of many protocols do.
    upstream.write_all(b"220 ready\r\n").await.unwrap();
    assert_eq!(read_until(&mut caller, "\r\n").await, "220 ready\r\n");
    let large: Vec<u8> = (0..5_000_000u32).map(|i| (i % 251) as u8).collect();
    let sending = async {
        caller.write_all(&large).await.unwrap();
        caller.shutdown().await.unwrap();
    };
    let mut all = Vec::new();
    let ((), read) = tokio::join!(sending, upstream.read_to_end(&mut all));
    read.unwrap();
    assert!(all == large);
    upstream.write_all(b"bye").await.unwrap();
    drop(upstream);
    assert_eq!(read_until(&mut caller, "bye").await, "bye");
    assert_eq!(caller.read(&mut [0]).await.unwrap(), 0);
    let totals = || plane.counters.all()[0].totals();
    until("the tunnel is over", || totals().connections == 0).await;
    assert_eq!((totals().tunnels, totals().tunnel_bytes), (1, [5_000_000, 14]));
    assert_eq!((totals().requests, totals().failures), (0, 0));
}

#[tokio::test]
async fn bytes_behind_the_request_go_through_the_tunnel() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = plane(&Chat::http1(listener.local_addr().unwrap()));
    let mut caller = TcpStream::connect(plane.outbound).await.unwrap();
    caller.write_all(format!("{ASK}GET /early HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    let early = "GET /early HTTP/1.1\r\n\r\n";
    assert_eq!(read_until(&mut upstream, early).await, early);
}

#[tokio::test]
async fn only_services_that_speak_no_http_are_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = plane(&Chat::http1(listener.local_addr().unwrap()));
    for (ask, status) in [
        ("CONNECT chat:80 HTTP/1.1\r\nHost: chat:80\r\n\r\n", 405),
        ("CONNECT db:5433 HTTP/1.1\r\nHost: db:5433\r\n\r\n", 405),
        ("CONNECT db HTTP/1.1\r\nHost: db\r\n\r\n", 400),
        ("CONNECT db:0 HTTP/1.1\r\nHost: db:0\r\n\r\n", 400),
        ("CONNECT db:5432 HTTP/1.1\r\nHost: evil:5432\r\n\r\n", 400),
        ("CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\nHost: db:5432\r\n\r\n", 400),
        ("CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\nContent-Length: 3\r\n\r\nabc", 400),
        ("CONNECT http://db:5432/ HTTP/1.1\r\nHost: db:5432\r\n\r\n", 400),
    ] {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: chat\r\n\r\n";
        let answer = raw(plane.outbound, &format!("{ask}{smuggled}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{ask}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{ask}: {answer}");
    }
    assert_eq!(plane.counters.all().iter().map(|it| it.totals().connects).sum::<u64>(), 0);
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_is_passed_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        gone.local_addr().unwrap()
    };
    let mut chat = Chat::http1(gone);
    chat.endpoints.push(listener.local_addr().unwrap());
    let plane = plane(&chat);
    for _ in 0..4 {
        drop(tunnel(plane.outbound, &listener).await);
    }
    assert!(plane.counters.all()[0].totals().connect_failures > 0);
}

#[tokio::test]
async fn nobody_answers_and_the_cap_is_reached() {
    let gone = {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        gone.local_addr().unwrap()
    };
    let dead = plane(&Chat::http1(gone));
    let answer = raw(dead.outbound, ASK).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("connect_failed"), "{answer}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limits = PoolLimits { max_connections: 1, ..PoolLimits::default() };
    let chat = Chat { limits, ..Chat::http1(listener.local_addr().unwrap()) };
    let narrow = plane(&chat);
    let mut open = Vec::new();
    let mut refused = 0;
    // A worker without any connection may always have one, and there are two workers.
    for _ in 0..4 {
        let mut caller = TcpStream::connect(narrow.outbound).await.unwrap();
        caller.write_all(ASK.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        caller.read_exact(&mut head).await.unwrap();
        match &head {
            b"HTTP/1.1 200" => open.push(caller),
            b"HTTP/1.1 503" => refused += 1,
            _ => panic!("{}", String::from_utf8_lossy(&head)),
        }
    }
    assert!((1..=2).contains(&open.len()) && refused == 4 - open.len(), "{refused}");
}

#[tokio::test]
async fn a_drain_lets_a_tunnel_run_until_its_time_is_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = plane(&Chat::http1(listener.local_addr().unwrap()));
    let (mut caller, mut upstream) = tunnel(plane.outbound, &listener).await;
    plane.drain.cancel();
    caller.write_all(b"still there?").await.unwrap();
    assert_eq!(read_until(&mut upstream, "?").await, "still there?");
    // The drain of this plane takes three seconds.
    assert_eq!(caller.read(&mut [0]).await.unwrap_or(0), 0);
    plane.workers.drained().await;
}
