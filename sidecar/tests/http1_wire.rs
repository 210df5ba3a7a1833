//! HTTP/1.1 byte by byte, with callers and upstreams that do not keep to it.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use segue_sidecar_core::snapshot::HttpVersion;
use support::scripted::scripted;
use support::{Chat, plane, raw, until, upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: chat\r\n{fields}\r\n")
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_their_order() {
    let upstream = upstream(HttpVersion::Http1).await;
    let plane = plane(&Chat::http1(upstream.address));
    let three = [get("/slow", ""), get("/empty", ""), get("/", "Connection: close\r\n")].concat();
    let answer = raw(plane.outbound, &three).await;
    let places = ["slow", "204 No Content", "hello"].map(|what| answer.find(what));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{answer}");
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let upstream = upstream(HttpVersion::Http1).await;
    let plane = plane(&Chat::http1(upstream.address));
    let mut caller = TcpStream::connect(plane.outbound).await.unwrap();
    caller.set_nodelay(true).unwrap();
    let request = "\r\nPOST /echo HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\
                   Transfer-Encoding: chunked\r\n\r\n1;a=\"b\"\r\nh\r\n4\r\nello\r\n0\r\n\r\n";
    for byte in request.as_bytes() {
        caller.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.unwrap();
    let body: String = answer.split("\r\n\r\n").skip(1).collect();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("0\r\n\r\n"), "{answer}");
    let letters: String = body.chars().filter(char::is_ascii_alphabetic).collect();
    assert_eq!(letters, "hello");
}

/// Row 14: an answer that nobody asked for belongs to nobody.
#[tokio::test]
async fn a_second_answer_is_never_anybodys() {
    let upstream = scripted(|connection, _| {
        let more = if connection == 0 { OK.replace("ok", "no") } else { String::new() };
        Some(format!("{OK}{more}"))
    })
    .await;
    let plane = plane(&Chat::http1(upstream.address));
    let mut caller = TcpStream::connect(plane.outbound).await.unwrap();
    let mut answer = [0; 1024];
    for _ in 0..4 {
        caller.write_all(get("/", "").as_bytes()).await.unwrap();
        let length = caller.read(&mut answer).await.unwrap();
        assert!(answer[..length].ends_with(b"\r\n\r\nok"));
    }
    assert_eq!(upstream.seen().len(), 2, "the first connection is not used again");
}

#[tokio::test]
async fn answers_that_cannot_be_read_are_502() {
    let many = "HTTP/1.1 100 Continue\r\n\r\n".repeat(17);
    let cases = [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            .into(),
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok".into(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".into(),
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok".into(),
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok".into(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\n\r\n".into(),
        "HTTP/0.9 200 OK\r\n\r\n".into(),
        "ok\r\n\r\n".into(),
        format!("{many}{OK}"),
    ];
    let answers = cases.clone();
    let upstream = scripted(move |connection, _| Some(answers[connection].clone())).await;
    let plane = plane(&Chat::http1(upstream.address));
    for (connection, case) in cases.iter().enumerate() {
        let answer = raw(plane.outbound, &get("/", "Connection: close\r\n")).await;
        assert!(
            answer.starts_with("HTTP/1.1 502 ") && answer.contains("malformed"),
            "{case}\n{answer}"
        );
        until("the connection is closed", || upstream.seen()[connection].closed).await;
    }
    assert_eq!(plane.counters.all()[0].totals().retries, 0);
}

#[tokio::test]
async fn answers_before_the_answer_are_skipped() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    let upstream = scripted(move |_, _| Some(format!("{interim}{OK}"))).await;
    let plane = plane(&Chat::http1(upstream.address));
    let answer = raw(plane.outbound, &get("/", "").repeat(2)).await;
    assert_eq!(answer, OK.repeat(2));
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_complete() {
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello";
    let cases = [
        // Known to be broken before anything was said to the caller.
        (format!("{chunks}\r\nzz\r\n"), "HTTP/1.1 502 "),
        (format!("{chunks}X"), "HTTP/1.1 502 "),
        (format!("{chunks}\r\n"), "HTTP/1.1 200 "),
        ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello".to_owned(), "HTTP/1.1 200 "),
    ];
    for (case, status) in cases {
        let bytes = case.clone();
        let upstream = scripted(move |_, _| Some(bytes.clone())).await;
        let timeout = Some(Duration::from_millis(300));
        let plane = plane(&Chat { timeout, ..Chat::http1(upstream.address) });
        let answer = raw(plane.outbound, &get("/", "")).await;
        assert!(answer.starts_with(status), "{case}\n{answer}");
        assert!(!answer.ends_with("0\r\n\r\n") && !answer.ends_with("hello!"), "{case}\n{answer}");
        until("the answer has failed", || plane.counters.all()[0].totals().failures == 1).await;
    }
}

/// A caller that knows no chunks takes the end of the connection for the end of the answer.
#[tokio::test]
async fn an_old_caller_sees_that_an_answer_broke_off() {
    const CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let upstream = scripted(|_, _| Some(CHUNKS.to_owned())).await;
    let timeout = Some(Duration::from_millis(300));
    let plane = plane(&Chat { timeout, ..Chat::http1(upstream.address) });
    let mut caller = TcpStream::connect(plane.outbound).await.unwrap();
    caller.write_all(b"GET / HTTP/1.0\r\nHost: chat\r\n\r\n").await.unwrap();
    assert!(caller.read_to_end(&mut Vec::new()).await.is_err());
}

#[tokio::test]
async fn a_body_that_turns_out_malformed_ends_the_request_upstream() {
    let upstream = scripted(|_, _| Some(String::new())).await;
    let plane = plane(&Chat::http1(upstream.address));
    for (round, bad) in ["zz\r\n", "5\r\nworldXX", "1;a=\"\r\nx", "0\r\n\n"].iter().enumerate() {
        let mut caller = TcpStream::connect(plane.outbound).await.unwrap();
        let good =
            "POST / HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
        caller.write_all(good.as_bytes()).await.unwrap();
        until("the good part has come", || upstream.text(round).ends_with("5\r\nhello\r\n")).await;
        caller.write_all(bad.as_bytes()).await.unwrap();
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("bad_body"), "{answer}");
        until("the request is given up", || upstream.seen()[round].closed).await;
        assert!(!upstream.text(round).contains("0\r\n\r\n"), "{}", upstream.text(round));
    }
}

#[tokio::test]
async fn a_small_body_that_nobody_wants_does_not_cost_the_connection() {
    let upstream = upstream(HttpVersion::Http1).await;
    let plane = plane(&Chat::http1(upstream.address));
    for body in
        ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n0\r\n\r\n"]
    {
        let refused = format!("POST / HTTP/1.1\r\nHost: nowhere\r\n{body}");
        let answer = raw(plane.outbound, &(refused + &get("/", ""))).await;
        assert!(answer.starts_with("HTTP/1.1 404 ") && answer.ends_with("hello"), "{answer}");
    }
    let large = format!(
        "POST / HTTP/1.1\r\nHost: nowhere\r\nContent-Length: 1000000\r\n\r\n{}",
        "x".repeat(500_000)
    );
    let answer = raw(plane.outbound, &large).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("404") && head.contains("connection: close"), "{head}");
    assert!(body.ends_with('}'), "the answer is whole: {body}");
    assert_eq!(upstream.requests.load(Ordering::SeqCst), 2);
}

/// A caller that reads nothing before it has sent all, and an upstream that answers before it has
/// read all: the rest of the request goes on while the answer waits.
#[tokio::test]
async fn a_request_goes_on_while_its_answer_waits_for_the_caller() {
    const LENGTH: usize = 32 * 1024 * 1024;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = plane(&Chat::http1(listener.local_addr().unwrap()));
    let head = |first: &str| format!("{first}\r\nHost: chat\r\nContent-Length: {LENGTH}\r\n\r\n");
    let (ask, answer) = (head("POST / HTTP/1.1"), head("HTTP/1.1 200 OK"));
    let whole = ask.len() + LENGTH;
    let upstream = tokio::spawn(async move {
        let (mut reading, mut writing) = listener.accept().await.unwrap().0.into_split();
        assert!(reading.read(&mut [0; 1]).await.unwrap() > 0);
        tokio::spawn(async move {
            writing.write_all(answer.as_bytes()).await.unwrap();
            writing.write_all(&vec![7; LENGTH]).await.unwrap();
            // Open until the test ends.
            std::future::pending::<()>().await;
        });
        let (mut seen, mut buffer) = (1, vec![0; 65536]);
        while seen < whole {
            let length = reading.read(&mut buffer).await.unwrap();
            assert!(length > 0, "{seen}");
            seen += length;
        }
    });
    let talking = async {
        let mut caller = TcpStream::connect(plane.outbound).await.unwrap();
        caller.write_all(ask.as_bytes()).await.unwrap();
        caller.write_all(&vec![7; LENGTH]).await.unwrap();
        upstream.await.unwrap();
        let (mut seen, mut buffer) = (0, vec![0; 65536]);
        while seen < LENGTH {
            seen += caller.read(&mut buffer).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), talking).await.unwrap();
}

#[tokio::test]
async fn trailers_pass_to_those_who_ask() {
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\
                  Grpc-Status: 0\r\nContent-Length: 7\r\n\r\n";
    let upstream = scripted(|_, _| Some(chunks.to_owned())).await;
    let plane = plane(&Chat::http1(upstream.address));
    let answer = raw(plane.outbound, &get("/", "TE: trailers\r\n")).await;
    assert!(answer.ends_with("\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n"), "{answer}");
    let answer = raw(plane.outbound, &get("/", "")).await;
    assert!(answer.ends_with("\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn answers_without_a_length_end_with_their_connection() {
    let upstream = scripted(|_, line| {
        (line == 0).then(|| "HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nhello".to_owned())
    })
    .await;
    let plane = plane(&Chat::http1(upstream.address));
    // The second line in the same request makes the upstream close.
    let ask = "POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 4\r\n\r\n\r\n\r\n";
    let answer = raw(plane.outbound, ask).await;
    assert!(
        answer.contains("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        "{answer}"
    );
    let old = ask.replace("1.1", "1.0");
    let answer = raw(plane.outbound, &old).await;
    assert!(answer.contains("connection: close\r\n\r\nhello"), "{answer}");
    assert!(answer.ends_with("hello") && !answer.contains("chunked"), "{answer}");
}

#[tokio::test]
async fn answers_without_a_body_may_say_how_long_it_would_be() {
    let upstream = scripted(|_, line| {
        let status = ["200 OK", "304 Not Modified", "204 No Content", "200 OK"][line];
        Some(format!(
            "HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{}",
            if line == 3 { "ok" } else { "" }
        ))
    })
    .await;
    let plane = plane(&Chat::http1(upstream.address));
    let head = get("/", "").replace("GET", "HEAD");
    let answer = raw(plane.outbound, &(head + &get("/", "").repeat(3))).await;
    let stated = "content-length: 2\r\n";
    assert_eq!(
        answer,
        format!(
            "HTTP/1.1 200 OK\r\n{stated}\r\nHTTP/1.1 304 Not Modified\r\n{stated}\r\n\
             HTTP/1.1 204 No Content\r\n\r\n{OK}"
        )
    );
    assert_eq!(upstream.seen().len(), 1);
}

/// Row 38.
#[tokio::test]
async fn long_heads_are_refused() {
    let upstream = upstream(HttpVersion::Http1).await;
    let plane = plane(&Chat::http1(upstream.address));
    let cases = [
        (get("/", &"X: a\r\n".repeat(110)), "HTTP/1.1 431 "),
        (get("/", &format!("X: {}\r\n", "a".repeat(70_000))), "HTTP/1.1 431 "),
        (get(&format!("/{}", "a".repeat(70_000)), ""), "HTTP/1.1 414 "),
    ];
    for (request, status) in cases {
        let answer = raw(plane.outbound, &request).await;
        assert!(answer.starts_with(status) && answer.contains("connection: close"), "{answer}");
        assert!(answer.contains("too_long"), "{answer}");
    }
    assert_eq!(upstream.requests.load(Ordering::SeqCst), 0);
    let large = get("/", &format!("X: {}\r\n", "a".repeat(50_000)));
    assert!(raw(plane.outbound, &large).await.ends_with("hello"));
}

#[tokio::test]
async fn what_goes_upstream_has_one_form() {
    let upstream = scripted(|_, _| Some(OK.to_owned())).await;
    let plane = plane(&Chat::http1(upstream.address));
    let asked = "POST /a?b HTTP/1.1\r\nHOST:\tchat \r\nContent-Length: 002\r\nX-Two: a\r\nx-two:b\r\n\r\nhi";
    assert_eq!(raw(plane.outbound, asked).await, OK);
    assert_eq!(
        upstream.text(0),
        "POST /a?b HTTP/1.1\r\nhost: chat\r\nx-two: a\r\nx-two: b\r\ncontent-length: 2\r\n\r\nhi"
    );
}
