//! One client connection of either protocol.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    /// With prior knowledge.
    Http2,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Value of `x-version`; empty where absent.
    pub version: String,
    /// Value of `x-instance`; empty where absent.
    pub instance: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The connection was closed before the request was on it: any client sends it again.
    Unsent(String),
    /// It was sent and not answered.
    Broken(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent(why) | Self::Broken(why) => f.write_str(why),
        }
    }
}

/// An open connection.
pub struct Connection {
    sender: Sender,
    limit: Duration,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Connects; `limit` holds for connecting and for each request.
    pub async fn open(
        protocol: Protocol,
        target: SocketAddr,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let unsent = |error: &dyn fmt::Display| Failure::Unsent(format!("connect: {error}"));
        let stream = timeout(limit, TcpStream::connect(target))
            .await
            .map_err(|_| Failure::Unsent("connect: no answer in time".into()))?
            .map_err(|error| unsent(&error))?;
        let _ = stream.set_nodelay(true);
        let stream = TokioIo::new(stream);
        let sender = match protocol {
            Protocol::Http1 => {
                let (sender, connection) =
                    http1::handshake(stream).await.map_err(|error| unsent(&error))?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
                    .await
                    .map_err(|error| unsent(&error))?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Self { sender, limit })
    }

    /// Another handle on the same connection, where the protocol has streams.
    pub fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => {
                Some(Self { sender: Sender::Http2(sender.clone()), limit: self.limit })
            }
        }
    }

    /// Whether the other side has ended it.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request and reads the whole answer. A body makes it a POST.
    pub async fn ask(
        &mut self,
        authority: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Answer, Failure> {
        match timeout(self.limit, self.exchange(authority, path, headers, body)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Broken(format!("no answer in {:?}", self.limit))),
        }
    }

    async fn exchange(
        &mut self,
        authority: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Answer, Failure> {
        let response = self.send(authority, path, headers, body).await?;
        let (head, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| Failure::Broken(format!("body: {}", chain(&error))))?
            .to_bytes();
        let text = |name: &str| {
            head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned()
        };
        Ok(Answer {
            status: head.status.as_u16(),
            version: text("x-version"),
            instance: text("x-instance"),
            headers: head.headers,
            body,
        })
    }

    /// Sends a request; the body of the answer is still to be read.
    pub async fn send(
        &mut self,
        authority: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Response<Incoming>, Failure> {
        let broken = |error: &dyn fmt::Display| Failure::Broken(error.to_string());
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request = match self.sender {
            Sender::Http1(_) => request.uri(path).header(HOST, authority),
            Sender::Http2(_) => {
                let uri: Uri =
                    format!("http://{authority}{path}").parse().map_err(|e| broken(&e))?;
                request.uri(uri)
            }
        };
        let request =
            request.body(Full::new(body.unwrap_or_default())).map_err(|error| broken(&error))?;
        let result = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(|error| unsent(&error))?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(|error| unsent(&error))?;
                sender.send_request(request).await
            }
        };
        result.map_err(|error| {
            // Never written, refused, or begun when a GOAWAY without error had come: such a stream
            // was not looked at (RFC 9113, section 6.8).
            let text = chain(&error);
            let goes_away = text.contains("connection error received: not a result of an error");
            if error.is_canceled() || goes_away || text.contains("REFUSED_STREAM") {
                Failure::Unsent(text)
            } else {
                Failure::Broken(text)
            }
        })
    }
}

fn unsent(error: &hyper::Error) -> Failure {
    Failure::Unsent(chain(error))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
