//! What the terminal shows: lines that stay, and below them a view that is redrawn in place. Where
//! there is no terminal, plain lines, one a second.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{IsTerminal, stdout};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use segue_tests::load::{Interval, Report};

/// Characters of the bar.
const BAR: usize = 48;

pub struct Screen {
    live: Option<(MultiProgress, ProgressBar)>,
    last_plain: Cell<Option<Instant>>,
}

/// One moment.
pub struct Moment<'a> {
    pub step: &'a str,
    pub control_plane: &'a str,
    pub interval: &'a Interval,
    pub total: &'a Report,
}

impl Screen {
    pub fn new() -> Self {
        let live = stdout().is_terminal().then(|| {
            let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
            let view = screen.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                view.set_style(style);
            }
            (screen, view)
        });
        Self { live, last_plain: Cell::new(None) }
    }

    /// A line that stays.
    pub fn say(&self, text: &str) {
        for line in text.trim_end().lines() {
            match &self.live {
                Some((screen, _)) => drop(screen.println(line)),
                None => println!("{line}"),
            }
        }
    }

    /// The view of now.
    pub fn show(&self, moment: &Moment<'_>) {
        match &self.live {
            Some((_, view)) => view.set_message(drawing(moment)),
            None => self.show_plain(moment),
        }
    }

    /// The last view stays as it is.
    pub fn close(&self) {
        if let Some((_, view)) = &self.live {
            view.finish();
        }
    }

    fn show_plain(&self, moment: &Moment<'_>) {
        let due = |last: Instant| last.elapsed() >= Duration::from_secs(1);
        if !self.last_plain.get().is_none_or(due) {
            return;
        }
        self.last_plain.set(Some(Instant::now()));
        let (v1, v2) = split(moment.interval);
        println!(
            "{:<9}  v1 {v1:5.1} %  v2 {v2:5.1} %  {:4.0} req/s  p50 {}  p99 {}  failed {}  control \
             plane {}",
            moment.step,
            moment.interval.rate(),
            millis(moment.interval.latency.p50),
            millis(moment.interval.latency.p99),
            moment.total.failed,
            moment.control_plane,
        );
    }
}

fn drawing(moment: &Moment<'_>) -> String {
    let (v1, v2) = split(moment.interval);
    // A share that exists is seen.
    let mut filled = (v2 / 100.0 * BAR as f64).round() as usize;
    if v2 > 0.0 {
        filled = filled.max(1);
    }
    if v1 > 0.0 {
        filled = filled.min(BAR - 1);
    }
    let mut text = String::new();
    let _ = writeln!(text);
    let _ = writeln!(text, "  {:<12}  control plane: {}", moment.step, moment.control_plane);
    let _ = writeln!(
        text,
        "  v1 {v1:5.1} %  \x1b[34m{}\x1b[32m{}\x1b[0m  {v2:5.1} % v2",
        "█".repeat(BAR - filled),
        "█".repeat(filled)
    );
    let _ = write!(
        text,
        "  {:.0} req/s   p50 {}   p99 {}   {} requests   \x1b[1m{} failed\x1b[0m",
        moment.interval.rate(),
        millis(moment.interval.latency.p50),
        millis(moment.interval.latency.p99),
        thousands(moment.total.requests),
        moment.total.failed
    );
    text
}

/// Shares of v1 and v2 in percent.
fn split(interval: &Interval) -> (f64, f64) {
    let count = |version: &str| interval.versions.get(version).copied().unwrap_or(0) as f64;
    let sum = (count("v1") + count("v2")).max(1.0);
    (count("v1") / sum * 100.0, count("v2") / sum * 100.0)
}

pub fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
