//! HTTP/1.1 to an upstream: the only file that knows which codec speaks it.
//!
//! The codec is driven by the task of the request that uses the connection, not by a task of its
//! own: no wake-up stands between a request and its answer.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::{future::Future, future::poll_fn};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use tokio::net::TcpStream;

use super::connect::{ConnectError, OpenConnection};
use crate::body::{BodyError, RequestBody};
use crate::wire::Wire;

/// Largest read buffer; heads of answers must fit.
const MAX_BUFFER_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;

/// One connection. Usable for one request at a time.
pub struct Http1Connection {
    sender: SendRequest<RequestBody>,
    /// `None` once the connection is closed.
    driver: Option<Pin<Box<Connection<Wire, RequestBody>>>>,
    _open: OpenConnection,
}

/// A request without an answer.
pub struct Http1Failure {
    /// Given back where no byte of it was sent.
    pub unsent: Option<Request<RequestBody>>,
    /// Whether the caller's body was at fault.
    pub callers_fault: bool,
    /// Whether the upstream's answer broke the protocol; else the connection was closed.
    pub malformed: bool,
    /// For logs.
    pub error: hyper::Error,
}

/// Where connections go whose answer is complete.
pub trait Home {
    /// Keeps a connection, or closes it.
    fn give_back(&self, connection: Http1Connection);
}

/// An answer's body. Gives the connection back when it ends.
pub struct Http1Body {
    incoming: Incoming,
    connection: Option<Http1Connection>,
    home: Rc<dyn Home>,
}

impl Http1Connection {
    /// Speaks HTTP/1.1 over a new connection.
    pub async fn begin(stream: TcpStream, open: OpenConnection) -> Result<Self, ConnectError> {
        let (sender, driver) = Builder::new()
            .max_buf_size(MAX_BUFFER_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(Wire::new(stream))
            .await?;
        Ok(Self { sender, driver: Some(Box::pin(driver)), _open: open })
    }

    /// Takes notice of what happened while nobody looked: whether a request can be sent now.
    pub fn is_usable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of the answer.
    pub async fn send(
        mut self,
        request: Request<RequestBody>,
        home: Rc<dyn Home>,
    ) -> Result<Response<Http1Body>, Http1Failure> {
        let mut answer = std::pin::pin!(self.sender.try_send_request(request));
        let answered = poll_fn(|context| {
            self.drive(context);
            answer.as_mut().poll(context)
        })
        .await;
        match answered {
            Ok(response) => {
                Ok(response.map(|incoming| Http1Body { incoming, connection: Some(self), home }))
            }
            Err(mut failed) => {
                let unsent = failed.take_message();
                let error = failed.into_error();
                Err(Http1Failure {
                    unsent,
                    callers_fault: error.is_user(),
                    malformed: error.is_parse(),
                    error,
                })
            }
        }
    }

    fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && driver.as_mut().poll(context).is_ready()
        {
            self.driver = None;
        }
    }
}

impl Http1Body {
    /// The next chunk, then the trailers.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut polled = Pin::new(&mut self.incoming).poll_frame(context);
        if polled.is_pending()
            && let Some(connection) = &mut self.connection
        {
            connection.drive(context);
            polled = Pin::new(&mut self.incoming).poll_frame(context);
        }
        if let Poll::Ready(None) = polled {
            self.give_back();
        }
        polled.map_err(BodyError::Http1)
    }

    /// Whether all of it was taken.
    pub fn is_end(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// What is known of the length.
    pub fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    fn give_back(&mut self) {
        if let Some(mut connection) = self.connection.take()
            && connection.is_usable()
        {
            self.home.give_back(connection);
        }
    }
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        // An answer of known length is dropped as soon as its last byte is taken. One that is not
        // at its end takes the connection with it.
        if self.is_end() {
            self.give_back();
        }
    }
}
