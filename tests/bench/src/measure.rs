//! What the kernel says of processes: CPU time, memory, stolen time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

/// Clock ticks a second of `/proc/PID/stat`, fixed at 100 on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds (user and system) of a process and all its descendants so far, by the scheduler's
/// nanosecond accounting where the kernel gives it, else by clock ticks.
pub fn cpu_seconds(root: u32) -> io::Result<f64> {
    let mut total = 0.0;
    for pid in family(root)? {
        total += threads_runtime(pid).or_else(|| ticks(pid)).unwrap_or(0.0);
    }
    Ok(total)
}

/// Resident memory of a process and all its descendants in MiB.
pub fn resident_mib(root: u32) -> io::Result<f64> {
    let mut kib = 0.0;
    for pid in family(root)? {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        kib += status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse::<f64>().ok())
            .unwrap_or(0.0);
    }
    Ok(kib / 1024.0)
}

/// Seconds that the hypervisor took from all cores so far.
pub fn stolen_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let stolen = stat.lines().next().and_then(|line| line.split_whitespace().nth(8));
    stolen.and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0) / TICKS_PER_SECOND
}

fn threads_runtime(pid: u32) -> Option<f64> {
    let mut nanoseconds = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let schedstat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += schedstat.split_whitespace().next()?.parse::<f64>().ok()?;
    }
    Some(nanoseconds / 1e9)
}

fn ticks(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold spaces; fields are counted behind it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok());
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

fn family(root: u32) -> io::Result<BTreeSet<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if let Some(parent) = parent.and_then(|parent| parent.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut family = BTreeSet::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        if family.insert(pid) {
            next.extend(children.get(&pid).into_iter().flatten());
        }
    }
    Ok(family)
}
