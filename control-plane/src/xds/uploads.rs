//! Streams on which clients tell rather than ask. They have a place, an age and a pace as those of
//! ADS do, and end with the token that they came with.

use std::net::SocketAddr;
use std::time::Duration;

use segue_shared::ids::ServiceName;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Request, Status, Streaming};

use super::open::Place;
use super::pace::Pace;
use super::stream::Ads;
use crate::access::Ticket;
use crate::metrics::StreamMetrics;

/// Time for the first message of a stream.
const FIRST: Duration = Duration::from_secs(10);

/// The messages of such a stream.
pub(super) struct Uploads<T> {
    messages: Streaming<T>,
    place: Place,
    metrics: StreamMetrics,
    /// When the stream ends.
    until: Instant,
    pace: Pace,
    /// When the next message may be read, where that is later than now.
    read_after: Option<Instant>,
}

impl<T> Uploads<T> {
    /// Takes a place for the stream.
    pub fn open(ads: &Ads, request: Request<Streaming<T>>) -> Result<Self, Status> {
        let ticket = Ticket::of(request.extensions());
        let place = ads.open.enter(request.remote_addr(), ticket)?;
        let now = Instant::now();
        Ok(Self {
            messages: request.into_inner(),
            metrics: ads.metrics.clone(),
            until: now + ads.settings.stream_age(place.draw()),
            pace: Pace::new(now),
            read_after: None,
            place,
        })
    }

    pub fn peer(&self) -> Option<SocketAddr> {
        self.place.peer()
    }

    /// Whether the client may say that it is an instance of a service.
    pub fn may_be(&self, service: Option<&ServiceName>) -> Result<(), Status> {
        self.place.may_be(service)
    }

    /// The first message. `None` where the client left without one.
    pub async fn first(&mut self) -> Result<Option<T>, Status> {
        let metrics = self.metrics.clone();
        let first = timeout_at(Instant::now() + FIRST, self.next()).await;
        first.unwrap_or_else(|_| {
            metrics.refused("silent");
            Err(Status::deadline_exceeded("no report came"))
        })
    }

    /// The next message; `None` when the client has ended the stream. May be dropped and called
    /// again at any time.
    pub async fn next(&mut self) -> Result<Option<T>, Status> {
        let (messages, read_after) = (&mut self.messages, self.read_after);
        let next = async {
            if let Some(at) = read_after {
                sleep_until(at).await;
            }
            messages.message().await
        };
        let Ok(next) = self.place.unless_stopped(timeout_at(self.until, next)).await? else {
            self.metrics.ended("age");
            return Err(Status::unavailable("the stream has reached its age: connect again"));
        };
        self.read_after = self.pace.spend(Instant::now());
        if self.read_after.is_some() {
            self.metrics.delayed_requests.inc();
        }
        next
    }

    /// Does some work unless the stream must end; then says why.
    pub async fn unless_stopped<W>(&self, work: impl Future<Output = W>) -> Result<W, Status> {
        self.place.unless_stopped(work).await
    }
}
