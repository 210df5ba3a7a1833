//! Medians with their spread, and ratios to Envoy taken round by round.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};

use crate::data_path::{Outcome, Series};
use crate::instructions::Cost;

/// The proxy that the others are compared with.
const REFERENCE: &str = "envoy";

/// Median, least and most.
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

pub fn print_table(outcomes: &[Outcome]) {
    for outcome in outcomes {
        println!("\n{}", outcome.work);
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY).set_header([
            "proxy",
            "CPU s / 1 M requests",
            "× envoy",
            "requests/s",
            "p50 ms",
            "p99 ms",
            "RSS MiB (idle)",
            "failed",
        ]);
        for (name, series) in &outcome.series {
            let (Some(cpu), Some(rate), Some(p50), Some(p99), Some(resident)) = (
                spread(&series.cpu_seconds_per_million),
                spread(&series.requests_per_second),
                spread(&series.p50),
                spread(&series.p99),
                spread(&series.resident_mib),
            ) else {
                continue;
            };
            table.add_row([
                (*name).to_owned(),
                format!("{:.1} ({:.1}–{:.1})", cpu.median, cpu.min, cpu.max),
                ratio(outcome, series).map_or_else(String::new, |ratio| {
                    format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.min, ratio.max)
                }),
                format!("{:.0} ({:.0}–{:.0})", rate.median, rate.min, rate.max),
                format!("{:.2}", p50.median / 1000.0),
                format!("{:.2}", p99.median / 1000.0),
                format!("{:.1} ({:.1})", resident.median, series.idle_resident_mib),
                series.failed.to_string(),
            ]);
        }
        for column in 1..8 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        println!("{table}");
        if outcome.dropped > 0 {
            println!("{} windows dropped: the machine was taken away in them", outcome.dropped);
        }
    }
    println!(
        "\nOne worker on one core each; medians (min–max) of interleaved rounds. Ratios are taken \
         round by round; differences under 8 % are noise."
    );
}

pub fn json(outcomes: &[Outcome]) -> Value {
    let outcomes: Vec<Value> = outcomes
        .iter()
        .map(|outcome| {
            let proxies: serde_json::Map<String, Value> = outcome
                .series
                .iter()
                .map(|(name, series)| {
                    let value = json!({
                        "cpuSecondsPerMillionRequests": series.cpu_seconds_per_million,
                        "requestsPerSecond": series.requests_per_second,
                        "p50Microseconds": series.p50,
                        "p99Microseconds": series.p99,
                        "residentMiB": series.resident_mib,
                        "idleResidentMiB": series.idle_resident_mib,
                        "failed": series.failed,
                        "cpuRatioToEnvoy": ratio(outcome, series).map(|ratio| ratio.median),
                    });
                    ((*name).to_owned(), value)
                })
                .collect();
            json!({"work": outcome.work, "dropped": outcome.dropped, "proxies": proxies})
        })
        .collect();
    json!({"works": outcomes})
}

pub fn print_instructions(costs: &[Cost]) {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(["work", "user instructions", "at most"]);
    for cost in costs {
        let (found, most) = (format!("{:.0}", cost.instructions), cost.most().to_string());
        table.add_row([cost.work.name.to_owned(), found, most]);
    }
    println!("\none request, one after the other on one connection\n{table}");
}

pub fn instructions_json(costs: &[Cost]) -> Value {
    let works = costs.iter().map(|cost| {
        json!({"work": cost.work.name, "instructions": cost.instructions, "most": cost.most()})
    });
    json!({"works": works.collect::<Vec<_>>()})
}

fn ratio(outcome: &Outcome, series: &Series) -> Option<Spread> {
    let reference = outcome.series.get(REFERENCE)?;
    let ratios: Vec<f64> = series
        .cpu_seconds_per_million
        .iter()
        .zip(&reference.cpu_seconds_per_million)
        .map(|(own, reference)| own / reference)
        .collect();
    spread(&ratios)
}

fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = match sorted.len() {
        0 => return None,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    };
    Some(Spread { median, min: sorted[0], max: *sorted.last()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let spread = spread(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.5, 1.0, 4.0));
    }
}
