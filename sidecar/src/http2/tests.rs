//! Both ends with each other, and with another implementation.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use proptest::prelude::*;
use segue_sidecar_core::http2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, duplex};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::*;

const SUM: HeaderName = HeaderName::from_static("x-sum");

fn sum(body: &[u8]) -> HeaderValue {
    body.iter().map(|byte| u64::from(*byte)).sum::<u64>().into()
}

fn trailers(body: &[u8]) -> HeaderMap {
    HeaderMap::from_iter([(SUM, sum(body))])
}

async fn read(receiver: &mut Receiver) -> Result<Vec<u8>, StreamError> {
    let mut body = Vec::new();
    while let Some(piece) = poll_fn(|context| receiver.poll_data(context)).await {
        body.extend_from_slice(&piece?);
    }
    Ok(body)
}

async fn write(sender: &mut Sender, mut body: Bytes, piece: usize) -> Result<(), StreamError> {
    while !body.is_empty() {
        let room = poll_fn(|context| sender.poll_room(context)).await?;
        sender.send_data(body.split_to(room.min(piece).min(body.len())), false)?;
    }
    Ok(())
}

/// Answers each request with its own body, and the sum of that behind it.
async fn echo(request: Request<Option<Receiver>>, mut sender: Sender, piece: usize) {
    let echoed = async {
        let (parts, body) = request.into_parts();
        let body = match body {
            Some(mut receiver) => read(&mut receiver).await?,
            None => Vec::new(),
        };
        sender.send_response(StatusCode::OK, &parts.headers, false)?;
        write(&mut sender, body.clone().into(), piece).await?;
        sender.send_trailers(&trailers(&body))
    };
    // Callers may give up.
    let _: Result<(), StreamError> = echoed.await;
}

fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(io: S, piece: usize) -> JoinHandle<()> {
    let mut connection = ServerConnection::new(io, Limits::default());
    spawn_local(async move {
        poll_fn(|context| {
            let received = connection.drive(context, |connection, context| {
                let received = connection.poll_receive(context);
                while let Some((request, sender)) = connection.next_request() {
                    spawn_local(echo(request, sender, piece));
                }
                let _ = connection.poll_flush(context);
                received
            });
            received.map(|_| ())
        })
        .await;
        connection.fail();
    })
}

fn call<S: AsyncRead + AsyncWrite + Unpin + 'static>(io: S) -> Requests {
    let (requests, mut driver) = begin_client(io, Limits::default());
    spawn_local(async move { poll_fn(|context| driver.poll(context)).await });
    requests
}

fn request() -> Request<()> {
    Request::post("http://chat/say?it").header("x-team", "search").body(()).unwrap()
}

/// Sends a body and gives back what came, whose trailers must fit.
async fn ask(requests: &Requests, body: Vec<u8>, piece: usize) -> Vec<u8> {
    let (mut receiver, mut sender) = requests.open(&request(), body.is_empty()).unwrap();
    let sending = async {
        if !body.is_empty() {
            write(&mut sender, body.clone().into(), piece).await.unwrap();
            sender.send_data(Bytes::new(), true).unwrap();
        }
    };
    let receiving = async {
        let head = poll_fn(|context| receiver.poll_head(context)).await.unwrap();
        assert_eq!((head.status(), &head.headers()["x-team"] == "search"), (StatusCode::OK, true));
        let body = read(&mut receiver).await.unwrap();
        assert_eq!(receiver.take_trailers().unwrap(), trailers(&body));
        assert!(receiver.is_end());
        body
    };
    tokio::join!(sending, receiving).1
}

/// The same with the other implementation as the caller.
async fn ask_with_h2(sender: h2::client::SendRequest<Bytes>, body: Vec<u8>) -> Vec<u8> {
    let mut sender = sender.ready().await.unwrap();
    let (answer, mut stream) = sender.send_request(request(), false).unwrap();
    let expected = body.len();
    let sending = async {
        let mut body = Bytes::from(body);
        while !body.is_empty() {
            stream.reserve_capacity(body.len());
            let room = poll_fn(|context| stream.poll_capacity(context)).await.unwrap().unwrap();
            stream.send_data(body.split_to(room.min(body.len())), false).unwrap();
        }
        stream.send_data(Bytes::new(), true).unwrap();
    };
    let receiving = async {
        let mut body = answer.await.unwrap().into_body();
        let mut all = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece.unwrap();
            body.flow_control().release_capacity(piece.len()).unwrap();
            all.extend_from_slice(&piece);
        }
        assert_eq!(body.trailers().await.unwrap().unwrap(), trailers(&all));
        assert_eq!(all.len(), expected);
        all
    };
    tokio::join!(sending, receiving).1
}

/// The same with the other implementation as the one that answers.
async fn serve_with_h2<S: AsyncRead + AsyncWrite + Unpin>(io: S) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        spawn_local(async move {
            let (parts, mut body) = request.into_parts();
            let mut all = Vec::new();
            while let Some(piece) = body.data().await {
                let Ok(piece) = piece else { return };
                let _ = body.flow_control().release_capacity(piece.len());
                all.extend_from_slice(&piece);
            }
            let mut response = Response::new(());
            *response.headers_mut() = parts.headers;
            let Ok(mut stream) = respond.send_response(response, false) else { return };
            let end = trailers(&all);
            let mut rest = Bytes::from(all);
            while !rest.is_empty() {
                stream.reserve_capacity(rest.len());
                let room = poll_fn(|context| stream.poll_capacity(context)).await;
                let Some(Ok(room)) = room else { return };
                let _ = stream.send_data(rest.split_to(room.min(rest.len())), false);
            }
            let _ = stream.send_trailers(end);
        });
    }
}

fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let length = prop_oneof![0usize..10, 0usize..20_000, 300_000usize..600_000];
    let body = (length, any::<u8>())
        .prop_map(|(length, seed)| (0..length).map(|at| (at as u8).wrapping_mul(seed)).collect());
    prop::collection::vec(body, 1..12)
}

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let limited = async { tokio::time::timeout(Duration::from_mins(1), test).await.unwrap() };
    runtime.block_on(LocalSet::new().run_until(limited))
}

async fn all_at_once<F: Future<Output = Vec<u8>> + 'static>(
    bodies: &[Vec<u8>],
    ask: impl Fn(Vec<u8>) -> F,
) {
    let asked: Vec<_> = bodies.iter().map(|body| spawn_local(ask(body.clone()))).collect();
    for (asked, body) in asked.into_iter().zip(bodies) {
        assert!(asked.await.unwrap() == *body);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Many bodies at a time come back as they went, however little the network takes at once.
    #[test]
    fn bodies_pass_whole(bodies in bodies(), width in 100usize..100_000, piece in 1usize..50_000) {
        run(async {
            let piece = piece.max(200);
            let (ours, theirs) = duplex(width);
            serve(theirs, piece);
            let requests = std::rc::Rc::new(call(ours));
            all_at_once(&bodies, |body| {
                let requests = std::rc::Rc::clone(&requests);
                async move { ask(&requests, body, piece).await }
            })
            .await;
        });
    }

    #[test]
    fn bodies_pass_whole_from_others(bodies in bodies(), width in 100usize..100_000) {
        run(async {
            let (ours, theirs) = duplex(width);
            serve(theirs, 5000);
            let (sender, driver) = h2::client::handshake(ours).await.unwrap();
            spawn_local(driver);
            all_at_once(&bodies, |body| ask_with_h2(sender.clone(), body)).await;
        });
    }

    #[test]
    fn bodies_pass_whole_to_others(bodies in bodies(), width in 100usize..100_000) {
        run(async {
            let (ours, theirs) = duplex(width);
            spawn_local(serve_with_h2(theirs));
            let requests = std::rc::Rc::new(call(ours));
            all_at_once(&bodies, |body| {
                let requests = std::rc::Rc::clone(&requests);
                async move { ask(&requests, body, 30_000).await }
            })
            .await;
        });
    }
}

#[test]
fn whoever_reads_nothing_gets_no_more_than_the_windows() {
    run(async {
        let (ours, theirs) = duplex(64 * 1024);
        spawn_local(serve_with_h2(theirs));
        let requests = call(ours);
        // Larger than the window of a stream.
        let body = vec![7; 400_000];
        let (mut receiver, mut sender) = requests.open(&request(), false).unwrap();
        write(&mut sender, body.clone().into(), 20_000).await.unwrap();
        sender.send_data(Bytes::new(), true).unwrap();
        let head = poll_fn(|context| receiver.poll_head(context)).await.unwrap();
        assert_eq!(head.status(), StatusCode::OK);
        // Others go on meanwhile.
        assert_eq!(ask(&requests, vec![1; 100_000], 10_000).await.len(), 100_000);
        let first = poll_fn(|context| receiver.poll_data(context)).await.unwrap().unwrap();
        let second = poll_fn(|context| receiver.poll_data(context)).await.unwrap().unwrap();
        assert_eq!(first.len() + second.len(), Limits::default().stream_window as usize);
        assert!(read(&mut receiver).await.unwrap().len() == 400_000 - first.len() - second.len());
    });
}

#[test]
fn an_answer_that_nobody_wants_is_cancelled() {
    run(async {
        let (ours, theirs) = duplex(64 * 1024);
        let serving = spawn_local(async move {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            spawn_local(async move { while connection.accept().await.is_some() {} });
            poll_fn(|context| respond.poll_reset(context)).await.unwrap()
        });
        let requests = call(ours);
        drop(requests.open(&request(), true).unwrap());
        assert_eq!(serving.await.unwrap(), h2::Reason::CANCEL);
    });
}

#[test]
fn a_server_that_leaves_finishes_what_it_took() {
    run(async {
        let (ours, theirs) = duplex(64 * 1024);
        spawn_local(async move {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            connection.graceful_shutdown();
            spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                respond.send_response(Response::new(()), true).unwrap();
            });
            while connection.accept().await.is_some() {}
        });
        let requests = call(ours);
        let (mut receiver, _sender) = requests.open(&request(), true).unwrap();
        let head = poll_fn(|context| receiver.poll_head(context)).await.unwrap();
        assert_eq!(head.status(), StatusCode::OK);
        assert!(!requests.may_open());
        assert!(matches!(requests.open(&request(), true), Err(StreamError::Closed)));
    });
}

#[test]
fn what_a_server_refuses_was_not_worked_on() {
    run(async {
        let (ours, theirs) = duplex(64 * 1024);
        spawn_local(async move {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            respond.send_reset(h2::Reason::INTERNAL_ERROR);
            while connection.accept().await.is_some() {}
        });
        let requests = call(ours);
        let failed = async || {
            let (mut receiver, _sender) = requests.open(&request(), true).unwrap();
            poll_fn(|context| receiver.poll_head(context)).await.unwrap_err()
        };
        assert_eq!(failed().await, StreamError::Unprocessed);
        assert_eq!(failed().await, StreamError::Reset(Reason::INTERNAL_ERROR));
    });
}

#[test]
fn callers_hear_that_a_connection_ends_and_finish() {
    run(async {
        let (ours, theirs) = duplex(64 * 1024);
        let mut connection = ServerConnection::new(theirs, Limits::default());
        let serving = spawn_local(async move {
            poll_fn(|context| {
                connection.drive(context, |connection, context| {
                    let _ = connection.poll_receive(context);
                    while let Some((request, sender)) = connection.next_request() {
                        connection.announce_end();
                        spawn_local(echo(request, sender, 1000));
                    }
                    let _ = connection.poll_flush(context);
                    if connection.is_over() { Poll::Ready(()) } else { Poll::Pending }
                })
            })
            .await;
        });
        let (sender, driver) = h2::client::handshake(ours).await.unwrap();
        let driving = spawn_local(driver);
        assert_eq!(ask_with_h2(sender.clone(), vec![7; 300_000]).await.len(), 300_000);
        serving.await.unwrap();
        drop(sender);
        driving.await.unwrap().unwrap();
    });
}
