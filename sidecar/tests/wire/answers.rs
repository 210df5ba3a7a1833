//! 2a row 14: upstreams that answer oddly. Nobody but the caller that asked hears of it.

use crate::capture::{Answer, Capture, Plane};
use crate::judge::send;

/// Answers that the codec cannot tell yet; must shrink.
const KNOWN: &[&str] = &[];

/// What is odd, the answer, and the status that the caller sees; 0: whatever is not a whole answer.
const ANSWERS: &[(&str, &str, u16)] = &[
    ("14 no HTTP", "hello\r\n\r\n", 502),
    (
        "14 Content-Length beside Transfer-Encoding",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        502,
    ),
    (
        "14 two lengths",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nevil!",
        502,
    ),
    ("14 a length below zero", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 502),
    ("14 a folded header", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", 502),
    ("14 NUL in a header", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n", 502),
    (
        "14 two answers",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        200,
    ),
    ("14 bytes behind the answer", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more", 200),
    (
        "14 a body behind 204",
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        204,
    ),
    ("14 a body behind 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil", 304),
];

#[tokio::test]
async fn odd_answers_reach_nobody_else() {
    let mut wrong = Vec::new();
    for (name, _, status) in ANSWERS {
        match (odd_answer(name, *status).await, KNOWN.contains(name)) {
            (Ok(()), false) | (Err(_), true) => {}
            (Ok(()), true) => wrong.push(format!("{name}: passes, remove it from the list")),
            (Err(why), false) => wrong.push(format!("{name}: {why}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn odd_answer(name: &str, status: u16) -> Result<(), String> {
    let upstream = Capture::answering(by_target()).await;
    let plane = Plane::start(upstream.address);
    let place = ANSWERS.iter().position(|it| it.0 == name).unwrap();
    let ask = format!("GET /odd/{place} HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n");
    let seen = send(plane.outbound, ask.as_bytes()).await;
    if seen.status() != status || seen.text().contains("evil") {
        return Err(format!("the caller saw {:?}", seen.text()));
    }
    for _ in 0..3 {
        let ask = "GET /second HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n";
        let seen = send(plane.outbound, ask.as_bytes()).await;
        if !seen.text().ends_with("\r\n\r\nsecond") {
            return Err(format!("a second caller saw {:?}", seen.text()));
        }
    }
    Ok(())
}

fn by_target() -> Answer {
    |request| {
        let odd =
            request.target().strip_prefix("/odd/").and_then(|place| place.parse::<usize>().ok());
        Some(match odd {
            Some(place) => ANSWERS[place].1.as_bytes().to_vec(),
            None => b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond".to_vec(),
        })
    }
}

/// 14: interim answers are few.
#[tokio::test]
async fn a_flood_of_interim_answers_has_an_end() {
    let upstream = Capture::answering(|request| {
        Some(match request.target() {
            "/second" => b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond".to_vec(),
            _ => b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n".repeat(100_000),
        })
    })
    .await;
    let plane = Plane::start(upstream.address);
    let ask =
        |path: &str| format!("GET {path} HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n");
    let flooded = tokio::spawn({
        let (address, ask) = (plane.outbound, ask("/flood"));
        async move { send(address, ask.as_bytes()).await }
    });
    let seen = send(plane.outbound, ask("/second").as_bytes()).await;
    assert!(seen.text().ends_with("\r\n\r\nsecond"), "{}", seen.text());
    let seen = flooded.await.unwrap();
    assert!(!seen.text().contains("HTTP/1.1 200"), "{}", seen.text());
}

/// 14: a HEAD's answer has no body, whatever its length says.
#[tokio::test]
async fn the_answer_to_head_has_no_body() {
    let upstream = Capture::answering(|request| {
        Some(if request.head[0].starts_with("HEAD ") {
            b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil".to_vec()
        } else {
            b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond".to_vec()
        })
    })
    .await;
    let plane = Plane::start(upstream.address);
    let head = "HEAD /a HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n";
    let seen = send(plane.outbound, head.as_bytes()).await;
    assert!(seen.status() == 200 && seen.text().ends_with("\r\n\r\n"), "{}", seen.text());
    let ask = "GET /second HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n";
    let seen = send(plane.outbound, ask.as_bytes()).await;
    assert!(seen.text().ends_with("\r\n\r\nsecond"), "{}", seen.text());
}

/// What concerns one connection stays there, and an application does not speak for the mesh.
#[tokio::test]
async fn answers_lose_what_concerns_one_connection() {
    let upstream = Capture::answering(|_| {
        Some(
            b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
              Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\n\
              X-Segue-Session: v2\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok"
                .to_vec(),
        )
    })
    .await;
    let plane = Plane::start(upstream.address);
    let seen = send(plane.inbound, b"GET /a HTTP/1.1\r\nHost: chat\r\n\r\n").await;
    let text = seen.text().to_ascii_lowercase();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.split("\r\n").collect();
    lines.sort_unstable();
    assert_eq!(
        (lines.as_slice(), body),
        (&["content-length: 2", "http/1.1 200 ok", "x-kept: 1"][..], "ok")
    );
}
