//! The result for people and for machines.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};

use super::{Change, Outcome, Part};

pub fn print_table(outcome: &Outcome) {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header([
        "services × streams",
        "p50 ms",
        "p99 ms",
        "last ms",
        "bytes a stream",
        "CPU s a change",
        "RSS KiB a stream",
        "first snapshots s",
    ]);
    for part in outcome.compared.iter().chain([&outcome.main]) {
        let cpu = spread(part, |change| change.cpu_seconds);
        table.add_row([
            format!("{} × {}", part.services, part.streams),
            spread(part, |change| number(&change.seen["p50Ms"])).short(),
            spread(part, |change| number(&change.seen["p99Ms"])).short(),
            spread(part, |change| number(&change.seen["maxMs"])).short(),
            format!("{:.0}", spread(part, |change| number(&change.seen["bytesP50"])).median),
            format!("{:.2} ({:.2}–{:.2})", cpu.median, cpu.least, cpu.most),
            format!("{:.1}", kib_a_stream(part)),
            format!("{:.1}", part.opened_seconds),
        ]);
    }
    for column in 1..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("\none weight change: time until streams have it; medians (min–max)\n{table}");
    let churn = &outcome.churn;
    println!(
        "\n{} endpoint changes in {:.1} s: {} streams have the last one {:.2} s after it was made; \
         snapshots a stream {} (least {}), the others merged forward; CPU {:.1} s; RSS {:.0} MiB, \
         most {:.0} MiB; streams lost {}",
        churn.made,
        churn.seconds,
        churn.seen["have"],
        churn.settled_seconds,
        churn.seen["marksP50"],
        churn.seen["marksMin"],
        churn.cpu_seconds,
        churn.before_mib,
        churn.most_mib,
        churn.seen["lost"],
    );
    let restart = &outcome.restart;
    println!(
        "kill -9 and restart: {} streams are back and have a change made meanwhile after {:.1} s; \
         {} bytes a stream received, RSS at most {:.0} MiB",
        restart.seen["have"], restart.seconds, restart.seen["bytesP50"], restart.most_mib,
    );
}

pub fn json(outcome: &Outcome) -> Value {
    let part = |part: &Part| {
        let changes: Vec<Value> = part
            .changes
            .iter()
            .map(|change| json!({"seen": change.seen, "cpuSeconds": change.cpu_seconds}))
            .collect();
        json!({
            "services": part.services,
            "streams": part.streams,
            "openedSeconds": part.opened_seconds,
            "idleMiB": part.idle_mib,
            "residentMiB": part.resident_mib,
            "kibAStream": kib_a_stream(part),
            "changes": changes,
        })
    };
    let (churn, restart) = (&outcome.churn, &outcome.restart);
    json!({
        "main": part(&outcome.main),
        "compared": outcome.compared.iter().map(part).collect::<Vec<_>>(),
        "churn": {
            "made": churn.made,
            "seconds": churn.seconds,
            "settledSeconds": churn.settled_seconds,
            "cpuSeconds": churn.cpu_seconds,
            "beforeMiB": churn.before_mib,
            "mostMiB": churn.most_mib,
            "seen": churn.seen,
        },
        "restart": {
            "seconds": restart.seconds,
            "mostMiB": restart.most_mib,
            "seen": restart.seen,
        },
    })
}

fn kib_a_stream(part: &Part) -> f64 {
    (part.resident_mib - part.idle_mib) * 1024.0 / part.streams.max(1) as f64
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// Median, least and most of the changes.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn short(&self) -> String {
        format!("{:.0} ({:.0}–{:.0})", self.median, self.least, self.most)
    }
}

fn spread(part: &Part, of: impl Fn(&Change) -> f64) -> Spread {
    let mut all: Vec<f64> = part.changes.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    let at = |i: usize| all.get(i).copied().unwrap_or(f64::NAN);
    Spread { median: at(all.len() / 2), least: at(0), most: at(all.len().saturating_sub(1)) }
}
