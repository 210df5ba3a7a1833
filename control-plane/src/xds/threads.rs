//! The threads that streams run on.
//!
//! They are not those of the admin API, the store and the publisher: a push to ten thousand streams
//! is as many tasks that are ready at one time, and whoever makes a change meanwhile would wait
//! behind all of them at each of its steps.

use std::io;
use std::num::NonZero;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime of its own for the xDS port. Dropping it ends its tasks, and waits for none.
#[derive(Debug)]
pub struct StreamThreads {
    streams: Streams,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

/// The way to those threads. Clones lead to the same.
#[derive(Clone, Debug)]
pub struct Streams {
    handle: Handle,
}

impl StreamThreads {
    /// Starts so many threads, or one for each core.
    pub fn start(threads: Option<u32>) -> io::Result<Self> {
        let cores = || available_parallelism().map_or(1, NonZero::get);
        let threads = threads.and_then(|threads| usize::try_from(threads).ok());
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.unwrap_or_else(cores))
            .thread_name("xds")
            .enable_all()
            .build()?;
        let streams = Streams { handle: runtime.handle().clone() };
        Ok(Self { streams, runtime: Some(runtime) })
    }

    pub fn streams(&self) -> Streams {
        self.streams.clone()
    }
}

impl Drop for StreamThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Whoever drops this may be a task, which must not wait for others.
            runtime.shutdown_background();
        }
    }
}

impl Streams {
    /// The threads of whoever calls this.
    pub fn here() -> Self {
        Self { handle: Handle::current() }
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until these threads have come to all that they were given before.
    pub async fn caught_up(&self) {
        // What is handed in from outside is taken in order. An error is the end of the process.
        let _ = self.handle.spawn(async {}).await;
    }
}
