//! The HTTP port: `/metrics`, `/livez`, `/readyz`.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use segue_shared::shutdown::DrainSignal;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::declared;
use crate::fleet::Fleet;
use crate::metrics::{self, Metrics};
use crate::store::{Following, Store};

/// Connections at one time; further ones wait in the system's queue.
const MOST_CONNECTIONS: usize = 64;
/// Time for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Life of a connection: scrapers open a new one.
const MOST_AGE: Duration = Duration::from_mins(5);
/// Pause after a failed accept, such as without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const INDEX: &str = "Segue's control plane\n\n\
    /metrics   metrics for Prometheus\n\
    /livez     200 while the process works\n\
    /readyz    200 while a checked configuration is served, with what of a newer one is held back\n";

/// What the pages tell of.
pub struct Pages {
    pub store: Arc<dyn Store>,
    pub fleet: Fleet,
    pub declared: watch::Receiver<declared::State>,
    /// Where others commit as well: whether that arrives here.
    pub following: Option<watch::Receiver<Following>>,
    pub metrics: Metrics,
    pub drain: DrainSignal,
}

/// Serves until the drain signal.
pub async fn serve(listener: TcpListener, pages: Pages) {
    let drain = pages.drain.clone();
    let pages = Arc::new(pages);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = drain.cancelled() => return,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the HTTP port cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = drain.cancelled() => return,
        };
        let pages = Arc::clone(&pages);
        connections.spawn(async move {
            let _place = place;
            let service = service_fn(move |request| {
                let pages = Arc::clone(&pages);
                async move { Ok::<_, Infallible>(pages.answer(&request)) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // A client that goes away, or stays too long, is no event.
            let _end = tokio::time::timeout(MOST_AGE, connection).await;
        });
    }
}

impl Pages {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET\n");
            refused
                .headers_mut()
                .insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match request.uri().path() {
            "/" => page(StatusCode::OK, TEXT, INDEX),
            "/livez" => page(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(),
            _ => page(StatusCode::NOT_FOUND, TEXT, "not found\n"),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let state = self.declared.borrow();
        let stopped = self.following.as_ref().and_then(|it| it.borrow().stopped.clone());
        if self.drain.is_cancelled() {
            page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "stopping\n")
        } else if let Some(reason) = stopped {
            let told = format!("{reason}: the store is not followed until this is restarted\n");
            page(StatusCode::SERVICE_UNAVAILABLE, TEXT, told)
        } else if let Some(fault) = &state.fault {
            page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{fault}\n"))
        } else if state.config.is_none() {
            page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the configuration is not read yet\n")
        } else {
            // Nodes have the last good configuration, and whoever mends the new one needs this port.
            let mut text = "ok\n".to_owned();
            for held_back in self.fleet.held_back() {
                // Writing into a string cannot fail.
                let _ = writeln!(text, "{held_back}");
            }
            page(StatusCode::OK, TEXT, text)
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let following = self.following.as_ref().map(|following| following.borrow().clone());
        let state = metrics::State {
            followed: following.as_ref().is_none_or(Following::is_up),
            heard: following.map_or(Duration::ZERO, |following| following.heard.elapsed()),
            revision: self.store.watch().borrow().0,
            served_revision: self.fleet.published_revision().0,
            fleet: self.fleet.counts(),
        };
        match self.metrics.text(&state) {
            Ok(text) => page(StatusCode::OK, OPEN_METRICS, text),
            Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
        }
    }
}

fn page(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = hyper::header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
