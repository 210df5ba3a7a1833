//! Runs calls of all kinds on a thread of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use super::kind::{Kind, Targets};
use super::tally::{Excuse, MixedReport, Tally};
use crate::draws::Draws;

/// Longest time for one call.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Longest pause between two calls of a lane, in milliseconds.
const LONGEST_PAUSE_MS: u32 = 100;

/// A running load. Stops when dropped.
pub struct Mixed {
    tally: Arc<Tally>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Mixed {
    /// Starts so many lanes of each kind, one call at a time each.
    pub fn start(targets: &Targets, kinds: &[(Kind, usize)], mut draws: Draws) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (tally, stopping) = (Arc::<Tally>::default(), Arc::<AtomicBool>::default());
        let kinds = kinds.iter().flat_map(|(kind, lanes)| vec![*kind; *lanes]);
        let lanes: Vec<_> = kinds
            .map(|kind| {
                let (tally, stopping) = (Arc::clone(&tally), Arc::clone(&stopping));
                lane(kind, targets.clone(), draws.apart(), tally, stopping)
            })
            .collect();
        let thread = std::thread::Builder::new().name("mixed".into()).spawn(move || {
            runtime.block_on(async {
                let tasks: Vec<_> = lanes.into_iter().map(tokio::spawn).collect();
                for task in tasks {
                    let _ = task.await;
                }
            });
        })?;
        Ok(Self { tally, stopping, thread: Some(thread) })
    }

    /// From now until the excuse is dropped, and for the grace after that, failures are explained.
    pub fn excuse(&self, grace: Duration) -> Excuse {
        self.tally.excuse(grace)
    }

    /// What happened so far.
    pub fn report(&self) -> MixedReport {
        self.tally.report()
    }

    /// Lets calls in flight end and gives the report.
    pub fn stop(mut self) -> MixedReport {
        self.end();
        self.tally.report()
    }

    fn end(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Mixed {
    fn drop(&mut self) {
        self.end();
    }
}

async fn lane(
    kind: Kind,
    targets: Targets,
    mut draws: Draws,
    tally: Arc<Tally>,
    stopping: Arc<AtomicBool>,
) {
    while !stopping.load(Ordering::Acquire) {
        let pause = Duration::from_millis(u64::from(draws.below(LONGEST_PAUSE_MS)));
        tokio::time::sleep(pause).await;
        let began = Instant::now();
        let result = match tokio::time::timeout(CALL_LIMIT, kind.once(&targets, &mut draws)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no end in {CALL_LIMIT:?}")),
        };
        tally.ended(kind, began, result);
    }
}

/// A server that sends back what it gets, on a thread of its own that ends with the process.
pub fn tcp_echo() -> io::Result<SocketAddr> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
    });
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo::Echo;
    use crate::wait;

    const KINDS: [(Kind, usize); 9] = [
        (Kind::Events1, 1),
        (Kind::Events2, 1),
        (Kind::Upload1, 1),
        (Kind::Upload2, 1),
        (Kind::GrpcUnary, 1),
        (Kind::GrpcStream, 1),
        (Kind::WebSocket, 1),
        (Kind::Download1, 1),
        (Kind::SlowReader2, 1),
    ];

    #[test]
    fn every_kind_does_well_with_the_test_application_itself() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let sidecar = listener.local_addr().unwrap();
        runtime.spawn(Echo { version: "v1".into(), delay: Duration::ZERO }.serve(listener));
        let (http, grpc, tcp) = ("chat".into(), "calls".into(), "bytes:7".into());
        let targets = Targets { sidecar, http, grpc, tcp };
        let mixed = Mixed::start(&targets, &KINDS, Draws::new(1)).unwrap();
        wait::until("all were there", Duration::from_secs(20), || {
            (mixed.report().good.len() == KINDS.len()).then_some(())
        })
        .unwrap();
        mixed.stop().assert_explained(&KINDS);
    }
}
