//! The story, step by step.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use segue_tests::load::{Interval, Load, Pace, Plan, Report};
use segue_tests::mesh::{Application, Mesh, Sidecar};

use crate::screen::{Moment, Screen, millis, thousands};

/// What is applied; the demo puts its own ports in the place of the file's.
const CONFIGURATION: &str = include_str!("../chat.yaml");
/// Percent of the users on v2, step by step.
const STEPS: &[u32] = &[0, 1, 5, 25, 50, 100];
/// During this step the control plane crashes.
const CRASH_AT: u32 = 25;
const USERS: u32 = 1000;
const REDRAW: Duration = Duration::from_millis(250);
const RECONNECT_LIMIT: Duration = Duration::from_secs(30);

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Pacing {
    hold: Duration,
    outage: Duration,
    rate: f64,
}

impl Pacing {
    pub const CALM: Self =
        Self { hold: Duration::from_secs(8), outage: Duration::from_secs(5), rate: 1000.0 };
    pub const FAST: Self =
        Self { hold: Duration::from_millis(2500), outage: Duration::from_secs(2), rate: 1000.0 };
}

/// Everything that runs. Dropped, it is all gone: processes first, then their directory.
pub struct Story<'a> {
    pacing: Pacing,
    screen: &'a Screen,
    interrupted: Arc<AtomicBool>,
    load: Option<Load>,
    sidecar: Sidecar,
    _applications: Vec<Application>,
    mesh: Mesh,
    addresses: Vec<(&'static str, String)>,
}

impl<'a> Story<'a> {
    /// Starts the processes.
    pub fn start(
        pacing: Pacing,
        screen: &'a Screen,
        interrupted: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let mut mesh = Mesh::start()?;
        let admin = mesh.control_plane().admin_address;
        screen.say(&format!("control plane   admin API on {admin}"));
        let mut applications = Vec::new();
        let mut addresses = Vec::new();
        for (version, written) in [("v1", "9001"), ("v1", "9002"), ("v2", "9101"), ("v2", "9102")] {
            let application = mesh.echo(version)?;
            screen.say(&format!("chat {version}         {}", application.address));
            addresses.push((written, application.address.to_string()));
            applications.push(application);
        }
        let sidecar = mesh.sidecar_with("demo-1", &[])?;
        screen.say(&format!("sidecar         outbound on {}", sidecar.outbound));
        Ok(Self {
            pacing,
            screen,
            interrupted,
            load: None,
            sidecar,
            _applications: applications,
            mesh,
            addresses,
        })
    }

    /// Tells it to the end.
    pub fn tell(mut self) -> io::Result<Verdict> {
        self.apply(0)?;
        self.sidecar.wait_ready()?;
        self.screen.say(&format!("{} users start to ask http://chat/\n", thousands(USERS.into())));
        self.load = Some(Load::start(Plan {
            users: USERS,
            pace: Pace::Open(self.pacing.rate),
            ..Plan::new(self.sidecar.outbound, "chat")
        })?);
        let mut last = Interval::default();
        for percent in STEPS {
            if *percent > 0 {
                self.apply(*percent)?;
            }
            // What was answered while the weight moved belongs to no step.
            self.interval();
            last = if *percent == CRASH_AT { self.crash(*percent)? } else { self.hold(*percent)? };
        }
        self.screen.say(&self.mesh.segue_ok(&["status"])?);
        let report = self.load.take().map(Load::stop).unwrap_or_default();
        let only_v2 = last.versions.get("v2").is_some_and(|count| *count > 0)
            && last.versions.get("v1").is_none_or(|count| *count == 0);
        Ok(Verdict { report, only_v2 })
    }

    /// Applies the weights with the command line, as anyone would, and shows what it prints.
    fn apply(&self, percent: u32) -> io::Result<()> {
        let mut yaml = CONFIGURATION
            .replace("v1, weight: 100", &format!("v1, weight: {}", 100 - percent))
            .replace("v2, weight: 0", &format!("v2, weight: {percent}"));
        for (written, address) in &self.addresses {
            yaml = yaml.replace(&format!("127.0.0.1:{written}"), address);
        }
        let file = self.mesh.file("chat.yaml", &yaml)?;
        self.screen.say(&format!("$ segue apply -f chat.yaml --wait    # {percent} % to v2"));
        let printed = self.mesh.segue_ok(&["apply", "-f", &file.to_string_lossy(), "--wait"])?;
        self.screen.say(&indent(&printed));
        self.check_interrupt()
    }

    /// Watches for the length of a step and gives what happened in it.
    fn hold(&self, percent: u32) -> io::Result<Interval> {
        self.watch(percent, "running", self.pacing.hold)
    }

    /// The control plane dies in the middle of the step and comes back; users go on.
    fn crash(&mut self, percent: u32) -> io::Result<Interval> {
        self.watch(percent, "running", self.pacing.hold / 3)?;
        self.mesh.control_plane().kill9()?;
        self.screen.say("$ kill -9 control-plane");
        self.watch(percent, "DEAD", self.pacing.outage)?;
        self.mesh.control_plane().restart()?;
        self.screen.say("control plane restarted");
        let mut admin = self.mesh.admin()?;
        let deadline = Instant::now() + RECONNECT_LIMIT;
        while !admin.sidecars()?.iter().any(|sidecar| sidecar.connected) {
            if Instant::now() > deadline {
                return Err(io::Error::other("the sidecar did not come back in 30 s"));
            }
            self.watch(percent, "sidecar connects", REDRAW)?;
        }
        self.watch(percent, "running", self.pacing.hold / 2)
    }

    fn watch(&self, percent: u32, control_plane: &str, length: Duration) -> io::Result<Interval> {
        let deadline = Instant::now() + length;
        let step = format!("{percent} % to v2");
        let mut seen = Interval::default();
        while Instant::now() < deadline {
            self.check_interrupt()?;
            thread::sleep(REDRAW.min(deadline.saturating_duration_since(Instant::now())));
            let interval = self.interval();
            let total = self.load.as_ref().map(Load::report).unwrap_or_default();
            self.screen.show(&Moment {
                step: &step,
                control_plane,
                interval: &interval,
                total: &total,
            });
            seen = interval;
        }
        Ok(seen)
    }

    fn interval(&self) -> Interval {
        self.load.as_ref().map(Load::interval).unwrap_or_default()
    }

    fn check_interrupt(&self) -> io::Result<()> {
        if self.interrupted.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
        }
        Ok(())
    }
}

/// How it ended.
pub struct Verdict {
    report: Report,
    only_v2: bool,
}

impl Verdict {
    /// Whether users noticed nothing and all of them are on v2.
    pub fn holds(&self) -> bool {
        let report = &self.report;
        report.requests > 0
            && report.failed == 0
            && report.resent == 0
            && report.moved_backwards == 0
            && self.only_v2
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.report;
        writeln!(f)?;
        writeln!(f, "  requests                     {}", thousands(report.requests))?;
        writeln!(f, "  failed                       {}", report.failed)?;
        writeln!(f, "  users                        {}", thousands(report.users_seen))?;
        writeln!(f, "  users who moved backwards    {}", report.moved_backwards)?;
        writeln!(
            f,
            "  latency                      p50 {}, p99 {}",
            millis(report.latency.p50),
            millis(report.latency.p99)
        )?;
        for (reason, count) in &report.reasons {
            writeln!(f, "    {count} × {reason}")?;
        }
        if report.resent > 0 {
            writeln!(f, "  sent again after a closed connection: {}", report.resent)?;
        }
        if !self.only_v2 {
            writeln!(f, "  v2 does not serve everyone at 100 %")?;
        }
        writeln!(f)?;
        if self.holds() {
            write!(f, "v1 is replaced by v2, and nobody noticed.")
        } else {
            write!(f, "The verdict does not hold.")
        }
    }
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
