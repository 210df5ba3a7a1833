//! How short memory is, looked at four times a second.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use segue_shared::shutdown::DrainSignal;
use segue_sidecar_core::overload::Step;
use tracing::{info, warn};

/// Between looks.
const TICK: Duration = Duration::from_millis(250);
/// What cgroups say where there is no limit: v1 has a number instead of a word.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// The step that all workers go by; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Overload(Arc<AtomicU8>);

impl Overload {
    /// The step of now.
    pub fn step(&self) -> Step {
        Step::of(self.0.load(Relaxed))
    }

    /// Takes a step.
    pub fn set(&self, step: Step) {
        self.0.store(step as u8, Relaxed);
    }

    /// Looks at the memory of this process until `stop`. Without a limit there is nothing to look at.
    pub async fn watch(self, limit_bytes: Option<u64>, stop: DrainSignal) {
        let Some(limit) = limit_bytes.or_else(cgroup_limit) else { return };
        info!(limit_bytes = limit, "memory is watched");
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let Some(used) = resident_bytes() else { continue };
            let before = self.step();
            let step = before.next(used, limit);
            if step != before {
                warn!(
                    used_bytes = used,
                    limit_bytes = limit,
                    step = step.name(),
                    "memory is short"
                );
                self.set(step);
            }
        }
    }
}

/// What of this process is in memory.
fn resident_bytes() -> Option<u64> {
    let told = fs::read_to_string("/proc/self/status").ok()?;
    let resident = told.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// The limit that the system holds this process to, if any: of cgroups v2, else of v1.
fn cgroup_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limit = |root: &str, group: &str, file: &str| {
        let path = Path::new(root).join(group.trim_start_matches('/')).join(file);
        // Within a container the group is the root of what is seen.
        let told =
            fs::read_to_string(path).or_else(|_| fs::read_to_string(Path::new(root).join(file)));
        told.ok()?.trim().parse::<u64>().ok().filter(|bytes| *bytes < NO_LIMIT_BYTES)
    };
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
        if controllers.is_empty() {
            limit("/sys/fs/cgroup", group, "memory.max")
        } else if controllers.split(',').any(|it| it == "memory") {
            limit("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes")
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_passed_is_seen() {
        let used = resident_bytes().unwrap();
        assert!(used > 1 << 20);
        let (overload, stop) = (Overload::default(), DrainSignal::new());
        let watching = tokio::spawn(overload.clone().watch(Some(used / 2), stop.clone()));
        tokio::time::sleep(TICK * 2).await;
        assert_eq!(overload.step(), Step::Refuse);
        stop.cancel();
        watching.await.unwrap();
    }
}
