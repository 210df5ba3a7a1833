//! Runs a plan on a thread of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::{Mutex, Notify};

use super::connection::{Connection, Failure, Protocol};
use super::plan::{Pace, Plan};
use super::record::{Interval, Recorder, Report};

/// How often a request that was never on a connection is sent again.
const MAX_RESENDS: u32 = 20;

/// A running load. Stops when dropped.
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    plan: Plan,
    recorder: Recorder,
    sequence: AtomicU64,
    stopping: AtomicBool,
    stop: Notify,
}

impl Load {
    /// Starts it.
    pub fn start(plan: Plan) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::new(Shared {
            recorder: Recorder::new(plan.lanes(), plan.users.max(1)),
            plan,
            sequence: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
        });
        let thread = std::thread::Builder::new().name("load".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&runtime, &shared)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What happened so far.
    pub fn report(&self) -> Report {
        self.shared.recorder.report()
    }

    /// What happened since the last call.
    pub fn interval(&self) -> Interval {
        self.shared.recorder.interval()
    }

    /// From now on no user has a past: for weights that go down again.
    pub fn forget_users(&self) {
        self.shared.recorder.forget_users();
    }

    /// Lets requests in flight end and gives the report.
    pub fn stop(mut self) -> Report {
        self.end();
        self.shared.recorder.report()
    }

    fn end(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.stop.notify_waiters();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(runtime: &Runtime, shared: &Arc<Shared>) {
    runtime.block_on(async {
        let plan = &shared.plan;
        let mut lanes = Vec::new();
        for _ in 0..plan.http1_connections {
            lanes.push(Lane::new(shared, lanes.len(), Wire::new(Protocol::Http1, plan)));
        }
        for _ in 0..plan.http2_connections {
            let wire = Wire::new(Protocol::Http2, plan);
            for _ in 0..plan.http2_streams {
                lanes.push(Lane::new(shared, lanes.len(), Arc::clone(&wire)));
            }
        }
        let tasks: Vec<_> = lanes.into_iter().map(|lane| tokio::spawn(lane.run())).collect();
        for task in tasks {
            let _ = task.await;
        }
    });
}

/// A connection that is opened when needed and again when it ended.
struct Wire {
    protocol: Protocol,
    target: SocketAddr,
    timeout: Duration,
    open: Mutex<Option<Connection>>,
}

impl Wire {
    fn new(protocol: Protocol, plan: &Plan) -> Arc<Self> {
        let (target, timeout) = (plan.target, plan.timeout);
        Arc::new(Self { protocol, target, timeout, open: Mutex::new(None) })
    }

    /// For HTTP/2 a handle on the shared connection, for HTTP/1.1 the connection itself.
    async fn connection(&self) -> Result<Connection, Failure> {
        let mut open = self.open.lock().await;
        let connection = match open.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => Connection::open(self.protocol, self.target, self.timeout).await?,
        };
        *open = connection.share();
        Ok(connection)
    }

    /// An HTTP/1.1 connection is usable for the next request.
    async fn give_back(&self, connection: Connection) {
        if self.protocol == Protocol::Http1 {
            *self.open.lock().await = Some(connection);
        }
    }
}

/// One request at a time.
struct Lane {
    shared: Arc<Shared>,
    number: usize,
    wire: Arc<Wire>,
}

impl Lane {
    fn new(shared: &Arc<Shared>, number: usize, wire: Arc<Wire>) -> Self {
        Self { shared: Arc::clone(shared), number, wire }
    }

    async fn run(self) {
        let plan = &self.shared.plan;
        let lanes = plan.lanes() as f64;
        let (gap, mut due) = match plan.pace {
            Pace::Closed => (Duration::ZERO, Instant::now()),
            Pace::Open(rate) => (
                Duration::from_secs_f64(lanes / rate),
                Instant::now() + Duration::from_secs_f64(self.number as f64 / rate),
            ),
        };
        while !self.shared.stopping.load(Ordering::Acquire) {
            if gap.is_zero() {
                due = Instant::now();
            } else {
                tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = self.shared.stop.notified() => return,
                }
            }
            self.request(due).await;
            due += gap;
        }
    }

    async fn request(&self, due: Instant) {
        let plan = &self.shared.plan;
        let recorder = &self.shared.recorder;
        let sequence = self.shared.sequence.fetch_add(1, Ordering::Relaxed);
        let user = (sequence % u64::from(plan.users.max(1))) as u32;
        let name = format!("user-{user}");
        let mut resends = 0;
        loop {
            let began = Instant::now();
            let question = plan.expect.ask(sequence);
            let headers = [(plan.user_header.as_str(), name.as_str())];
            let asked = async {
                let mut connection = self.wire.connection().await?;
                let body = question.body.clone();
                let answer =
                    connection.ask(&plan.authority, &question.path, &headers, body).await?;
                self.wire.give_back(connection).await;
                Ok(answer)
            };
            match asked.await {
                Ok(answer) => match plan.expect.judge(&question, &answer) {
                    Ok(()) => {
                        recorder.answered(self.number, user, &answer.version, began, due.elapsed());
                    }
                    Err(wrong) => recorder.failed(self.number, wrong, due.elapsed()),
                },
                Err(Failure::Unsent(_)) if resends < MAX_RESENDS => {
                    resends += 1;
                    recorder.resent(self.number);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                Err(failure) => {
                    recorder.failed(self.number, failure.to_string(), due.elapsed());
                    // A dead target must not turn a closed loop into a busy one.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::echo::Echo;
    use crate::wait;

    fn echo(version: &str) -> (Runtime, SocketAddr) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let echo = Echo { version: version.into(), delay: Duration::ZERO };
        runtime.spawn(echo.serve(listener));
        (runtime, address)
    }

    #[test]
    fn both_protocols_are_answered_and_every_user_is_seen() {
        let (_runtime, target) = echo("v1");
        let plan = Plan { users: 50, pace: Pace::Closed, ..Plan::new(target, "chat") };
        let load = Load::start(plan).unwrap();
        wait::until("there is load", Duration::from_secs(10), || {
            (load.report().requests >= 500).then_some(())
        })
        .unwrap();
        let report = load.stop();
        report.assert_clean();
        assert_eq!((report.users_seen, report.moved_backwards), (50, 0));
        assert_eq!(report.versions["v1"], report.requests);
    }

    #[test]
    fn a_target_that_dies_shows_as_failures() {
        let (runtime, target) = echo("v1");
        let load = Load::start(Plan::new(target, "chat")).unwrap();
        let until = |what: &str, condition: &dyn Fn() -> bool| {
            wait::until(what, Duration::from_secs(10), || condition().then_some(())).unwrap();
        };
        until("there is load", &|| load.report().requests > 50);
        runtime.shutdown_background();
        until("failures are seen", &|| load.report().failed > 0);
    }

    #[test]
    fn an_open_loop_keeps_its_rate() {
        let (_runtime, target) = echo("v1");
        let plan = Plan { pace: Pace::Open(400.0), ..Plan::new(target, "chat") };
        let load = Load::start(plan).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        let requests = load.stop().requests;
        // 400 are due; a busy machine may stop it late, but never let it send ahead of time.
        assert!((250..=800).contains(&requests), "{requests} requests in a second");
    }
}
