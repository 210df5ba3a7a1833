//! Medians with their spread, and ratios to Envoy taken round by round.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use serde_json::{Map, Value, json};

use crate::data_path::{Outcome, Samples};
use crate::instructions::Cost;

/// The proxy that the others are compared with.
const REFERENCE: &str = "envoy";

/// Median, least and most.
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn print(&self, decimals: usize) -> String {
        format!("{:.decimals$} ({:.decimals$}–{:.decimals$})", self.median, self.min, self.max)
    }
}

/// One work as a table.
pub fn print_outcome(outcome: &Outcome) {
    println!("\n{}", outcome.work);
    let mut header = vec!["proxy".to_owned(), "× envoy".to_owned()];
    header.extend(outcome.quantities.iter().map(|quantity| quantity.name.to_owned()));
    header.push("failed".to_owned());
    let columns = header.len();
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(header);
    for (name, samples) in &outcome.proxies {
        let compared = ratio(outcome, samples).map_or_else(String::new, |ratio| ratio.print(2));
        let mut row = vec![(*name).to_owned(), compared];
        for (quantity, series) in outcome.quantities.iter().zip(&samples.series) {
            row.push(spread(series).map_or_else(String::new, |it| it.print(quantity.decimals)));
        }
        row.push(samples.failed.to_string());
        table.add_row(row);
    }
    for column in 1..columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{table}");
    if outcome.dropped > 0 {
        println!("{} windows dropped: the machine was taken away in them", outcome.dropped);
    }
}

/// How tables are to be read.
pub fn print_legend() {
    println!(
        "\nOne worker on one core each; medians (min–max) of interleaved rounds. The ratio is that \
         of the first column, taken round by round; differences under 8 % are noise."
    );
}

pub fn json(outcomes: &[Outcome]) -> Value {
    let outcomes = outcomes.iter().map(|outcome| {
        let proxies = outcome.proxies.iter().map(|(name, samples)| {
            let mut value = Map::new();
            for (quantity, series) in outcome.quantities.iter().zip(&samples.series) {
                value.insert(quantity.key.to_owned(), json!(series));
            }
            value.insert("failed".into(), json!(samples.failed));
            let ratio = ratio(outcome, samples).map(|ratio| ratio.median);
            value.insert("ratioToEnvoy".into(), json!(ratio));
            ((*name).to_owned(), Value::from(value))
        });
        let proxies: Map<String, Value> = proxies.collect();
        json!({"work": outcome.work, "dropped": outcome.dropped, "proxies": proxies})
    });
    json!({"works": outcomes.collect::<Vec<_>>()})
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

/// The first quantity against that of the reference.
fn ratio(outcome: &Outcome, samples: &Samples) -> Option<Spread> {
    let reference = outcome.proxies.get(REFERENCE)?.series.first()?;
    let own = samples.series.first()?;
    let ratios: Vec<f64> =
        own.iter().zip(reference).map(|(own, reference)| own / reference).collect();
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
