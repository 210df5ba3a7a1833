//! An HTTP server of tests.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use segue_sidecar_core::snapshot::HttpVersion;
use tokio::net::TcpListener;

use super::Body;

/// An upstream that answers by path.
pub struct Upstream {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    pub requests: Arc<AtomicUsize>,
    /// Bytes of the bodies that it echoed.
    pub echoed: Arc<AtomicUsize>,
    /// A status that it answers to everything; 0: by path.
    pub status: Arc<AtomicU16>,
    pub task: tokio::task::JoinHandle<()>,
}

impl Upstream {
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub fn bytes(&self) -> usize {
        self.echoed.load(Ordering::SeqCst)
    }

    /// From now on everything is answered with this status.
    pub fn answer_only(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

pub async fn upstream(http: HttpVersion) -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let status = Arc::<AtomicU16>::default();
    let (accepted, answered) = (Arc::clone(&connections), Arc::clone(&requests));
    let only = Arc::clone(&status);
    let echoed = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&echoed);
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            accepted.fetch_add(1, Ordering::SeqCst);
            let (answered, only) = (Arc::clone(&answered), Arc::clone(&only));
            let counted = Arc::clone(&counted);
            let service = service_fn(move |request| {
                answered.fetch_add(1, Ordering::SeqCst);
                let only = StatusCode::from_u16(only.load(Ordering::SeqCst)).ok();
                let counted = Arc::clone(&counted);
                async move {
                    Ok::<_, Infallible>(match only {
                        Some(status) => {
                            let mut response = text("only this");
                            *response.status_mut() = status;
                            response
                        }
                        None => answer(request, counted).await,
                    })
                }
            });
            let io = TokioIo::new(stream);
            tokio::spawn(async move {
                // A caller that goes away is part of the tests.
                let _ = match http {
                    HttpVersion::Http1 => {
                        let builder = hyper::server::conn::http1::Builder::new();
                        builder.serve_connection(io, service).await
                    }
                    HttpVersion::Http2 => {
                        let builder =
                            hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        builder.serve_connection(io, service).await
                    }
                };
            });
        }
    });
    Upstream { address, connections, requests, echoed, status, task }
}

pub const BIG: usize = 10 * 1024 * 1024;
pub static CHUNK: [u8; 65536] = [7; 65536];

async fn answer(request: Request<Incoming>, echoed: Arc<AtomicUsize>) -> Response<Body> {
    if request.method() == http::Method::HEAD {
        let mut response = Response::new(Full::default().boxed());
        response.headers_mut().insert("content-length", "5".parse().unwrap());
        return response;
    }
    match request.uri().path() {
        "/echo" => {
            let length = request.headers().get("content-length").cloned();
            let body = request.into_body().map_frame(move |frame| {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                echoed.fetch_add(bytes, Ordering::SeqCst);
                frame
            });
            let body = body.map_err(|_| unreachable!());
            let mut response = Response::new(body.boxed());
            if let Some(length) = length {
                response.headers_mut().insert("content-length", length);
            }
            response
        }
        "/count" => {
            let mut body = request.into_body();
            let mut count = 0;
            while let Some(Ok(frame)) = body.frame().await {
                count += frame.data_ref().map_or(0, Bytes::len);
            }
            text(&count.to_string())
        }
        "/big" => {
            let chunks = futures_util::stream::iter(
                (0..BIG / 65536)
                    .map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from_static(&CHUNK)))),
            );
            Response::new(BodyExt::boxed(StreamBody::new(chunks)))
        }
        "/trailers" => {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let trailers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                http::HeaderValue::from_static("0"),
            )]);
            let frames = [Ok(Frame::data(body)), Ok::<_, Infallible>(Frame::trailers(trailers))];
            let body = StreamBody::new(futures_util::stream::iter(frames));
            let mut response = Response::new(BodyExt::boxed(body));
            let grpc = http::HeaderValue::from_static("application/grpc");
            response.headers_mut().insert("content-type", grpc);
            response
        }
        "/head" => {
            let mut lines =
                format!("{} {:?} {}\n", request.method(), request.version(), request.uri());
            for (name, value) in request.headers() {
                writeln!(lines, "{name}: {}", value.to_str().unwrap()).unwrap();
            }
            let mut response = text(&lines);
            let headers = response.headers_mut();
            headers.insert("keep-alive", "timeout=1".parse().unwrap());
            response
        }
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(500)).await;
            text("slow")
        }
        "/brief" => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            text("brief")
        }
        "/never" => std::future::pending().await,
        "/stalls" => {
            let begun = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"begun")))]);
            let stalled = futures_util::StreamExt::chain(begun, futures_util::stream::pending());
            let mut response = Response::new(BodyExt::boxed(StreamBody::new(stalled)));
            if let Some(kind) = request.headers().get("content-type") {
                response.headers_mut().insert("content-type", kind.clone());
            }
            response
        }
        "/close" => {
            let mut response = text("bye");
            response.headers_mut().insert("connection", "close".parse().unwrap());
            response
        }
        "/unavailable" => {
            let mut response = text("not now");
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        }
        "/empty" => {
            let mut response = Response::new(Full::default().boxed());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        _ => text("hello"),
    }
}

fn text(text: &str) -> Response<Body> {
    Response::new(Full::from(text.to_owned()).boxed())
}
