//! How many calls the API serves at one time. The others are told to come again, not queued.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// Calls that are answered at once.
const MOST_CALLS: usize = 64;
/// Streams: watches and waits, which last.
const MOST_STREAMS: usize = 64;

/// Free places; clones share them.
#[derive(Clone)]
pub struct InFlight {
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

/// A place, taken until this is dropped.
pub struct Place(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl InFlight {
    pub fn new() -> Self {
        Self {
            calls: Arc::new(Semaphore::new(MOST_CALLS)),
            streams: Arc::new(Semaphore::new(MOST_STREAMS)),
        }
    }

    pub fn call(&self) -> Result<Place, Status> {
        take(&self.calls, "calls", MOST_CALLS)
    }

    pub fn stream(&self) -> Result<Place, Status> {
        take(&self.streams, "watches and waits", MOST_STREAMS)
    }
}

fn take(places: &Arc<Semaphore>, of_what: &str, most: usize) -> Result<Place, Status> {
    Arc::clone(places).try_acquire_owned().map(Place).map_err(|_| {
        Status::resource_exhausted(format!("{most} {of_what} are in flight: try again shortly"))
    })
}
