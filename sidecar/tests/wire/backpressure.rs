//! 2d row 39: whoever sends faster than the other side takes is held back. What lies between the two
//! is a few buffers, most of them the kernel's.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::capture::Plane;
use crate::raw_http2::{Came, DATA, RawHttp2, WINDOW_UPDATE, fields, frame, get, head, number};

const MOST_BETWEEN: usize = 24 * 1024 * 1024;
/// The window of a stream, and the one of a connection before it is opened.
const STREAM_WINDOW: usize = 256 * 1024;
const FIRST_WINDOW: usize = 65_535;
const PIECE: usize = 16 * 1024;
/// Nothing more comes when nothing came for so long.
const QUIET: Duration = Duration::from_millis(500);

#[tokio::test]
async fn row_39_a_side_that_stalls_holds_the_other_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = Plane::start(listener.local_addr().unwrap());
    let mut caller = TcpStream::connect(plane.outbound).await.unwrap();
    let head = "POST /a HTTP/1.1\r\nHost: chat\r\nContent-Length: 1073741824\r\n\r\n";
    caller.write_all(head.as_bytes()).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    let up = pushed(&mut caller).await;
    assert!(up < MOST_BETWEEN, "{up} bytes of an upload are nowhere");
    let mut head = [0; 16];
    upstream.read_exact(&mut head).await.unwrap();
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n";
    upstream.write_all(answer.as_bytes()).await.unwrap();
    let down = pushed(&mut upstream).await;
    assert!(down < MOST_BETWEEN, "{down} bytes of an answer are nowhere");
}

/// How much a connection takes until it takes no more.
async fn pushed(stream: &mut TcpStream) -> usize {
    let piece = vec![7; 256 * 1024];
    let mut all = 0;
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(500), stream.write(&piece)).await
    {
        all += written.unwrap();
        assert!(all < 512 * 1024 * 1024, "nothing holds it back");
    }
    all
}

#[tokio::test]
async fn row_39_an_upload_over_http2_opens_its_windows_as_the_upstream_takes_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = Plane::start(listener.local_addr().unwrap());
    let mut caller = RawHttp2::connect(plane.outbound).await;
    let mut post = get("/a", &[("content-length", "1073741824")]);
    post[0] = (":method", "POST");
    caller.send(&head(1, 0, &fields(&post))).await;
    let (mut upstream, _) = listener.accept().await.unwrap();
    let (mut of_stream, mut of_all, mut sent) = (STREAM_WINDOW, FIRST_WINDOW, 0);
    let piece = frame(DATA, 0, 1, &[7; PIECE]);
    let mut stalled = true;
    loop {
        while of_stream.min(of_all) >= PIECE {
            assert!(caller.send(&piece).await);
            (of_stream, of_all, sent) = (of_stream - PIECE, of_all - PIECE, sent + PIECE);
            assert!(sent < MOST_BETWEEN, "{sent} bytes of an upload are nowhere");
        }
        match caller.next_within(QUIET).await {
            Came::Frame(it) if it.kind == WINDOW_UPDATE => {
                let opened = if it.stream == 0 { &mut of_all } else { &mut of_stream };
                *opened += number(&it.payload) as usize;
                if !stalled {
                    break;
                }
            }
            Came::Frame(_) => {}
            Came::Closed => panic!("closed after {sent} bytes"),
            Came::Quiet => {
                // The upstream goes on, and so does the caller.
                assert!(stalled, "the windows stay shut");
                stalled = false;
                let mut taken = vec![0; sent / 2];
                upstream.read_exact(&mut taken).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn row_39_a_caller_that_opens_no_window_holds_its_answer_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plane = Plane::start(listener.local_addr().unwrap());
    let mut caller = RawHttp2::connect(plane.outbound).await;
    caller.get(1, "/a").await;
    let (mut upstream, _) = listener.accept().await.unwrap();
    let mut asked = [0; 16];
    upstream.read_exact(&mut asked).await.unwrap();
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n";
    upstream.write_all(answer.as_bytes()).await.unwrap();
    let down = pushed(&mut upstream).await;
    assert!(down < MOST_BETWEEN, "{down} bytes of an answer are nowhere");
    let mut came = 0;
    while let Came::Frame(it) = caller.next_within(QUIET).await {
        came += if it.kind == DATA { it.payload.len() } else { 0 };
    }
    assert_eq!(came, FIRST_WINDOW);
}
