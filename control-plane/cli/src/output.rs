//! Where words go: results to one stream, notes and complaints to the other.

use std::io::{self, IsTerminal as _, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width};
use serde_json::Value;

use crate::error::CliError;
use crate::format::Format;

/// Columns of the terminal between two of a table.
const GAP: u16 = 3;
/// Widest cell that is never wrapped.
const MOST_UNBROKEN: u16 = 20;

/// Standard output and error, or what stands for them in a test.
pub struct Output<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    /// Columns of the terminal that results go to; `None` where they go elsewhere.
    width: Option<u16>,
    /// Whether notes go to a terminal, so that a line may be drawn again.
    live: bool,
}

impl<'a> Output<'a> {
    /// Text without a terminal.
    pub fn captured(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self { out, err, width: None, live: false }
    }

    /// The streams of this process.
    pub fn of_process(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        let width = io::stdout().is_terminal().then(|| Table::new().width()).flatten();
        Self { out, err, width, live: io::stderr().is_terminal() }
    }

    pub fn is_terminal(&self) -> bool {
        self.width.is_some()
    }

    pub fn is_live(&self) -> bool {
        self.live
    }

    /// A part of the result.
    pub fn print(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Where a result that is no text goes.
    pub fn bytes(&mut self) -> &mut dyn Write {
        self.out
    }

    /// A line of the result.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        self.print(&format!("{text}\n"))
    }

    /// A line that is not the result.
    pub fn note(&mut self, text: &str) {
        // Nothing is left to say it on.
        let _ = writeln!(self.err, "{text}");
    }

    pub fn complain(&mut self, error: &CliError) {
        match error {
            // Whoever closed the pipe has what they wanted.
            CliError::Print(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            // Each line names its file, as editors want it.
            CliError::Faults(_) => self.note(&error.to_string()),
            _ => self.note(&format!("error: {error}")),
        }
    }

    /// A table; with a terminal, one that fits it. `header` is left out of later parts of a watch.
    pub fn table(&mut self, header: Option<&[&str]>, rows: Vec<Vec<String>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(NOTHING);
        if let Some(width) = self.width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        if let Some(header) = header {
            table.set_header(header.iter().copied());
        }
        table.add_rows(rows);
        let widths = table.column_max_content_widths();
        for (column, width) in table.column_iter_mut().zip(widths) {
            column.set_padding((0, GAP));
            // Short cells stay whole: a terminal too narrow for them folds the lines instead.
            let least = Width::Fixed(width.min(MOST_UNBROKEN).saturating_add(GAP));
            column.set_constraint(ColumnConstraint::LowerBoundary(least));
        }
        if table.is_empty() && header.is_none() {
            return Ok(());
        }
        self.line(&table.trim_fmt())
    }

    /// A value in a format for programs.
    pub fn value(&mut self, format: Format, value: &Value) -> Result<(), CliError> {
        let text = if format == Format::Yaml {
            serde_saphyr::to_string(value).map_err(io::Error::other)?
        } else {
            serde_json::to_string_pretty(value).map_err(io::Error::other)?
        };
        Ok(self.line(text.trim_end())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(width: Option<u16>, rows: &[[&str; 3]]) -> String {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output { out: &mut out, err: &mut err, width, live: false };
        let rows = rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        output.table(Some(&["REVISION", "CHANGES", "MESSAGE"]), rows).unwrap();
        String::from_utf8(out).unwrap()
    }

    const ROWS: [[&str; 3]; 2] = [
        ["12", "service/chat created", "the first half of all callers moves on to the new one"],
        ["11", "route/chat deleted", ""],
    ];

    #[test]
    fn without_a_terminal_a_row_is_a_line() {
        let text = table(None, &ROWS);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            text.starts_with("REVISION   CHANGES                MESSAGE\n12         "),
            "{text}"
        );
    }

    #[test]
    fn on_a_narrow_terminal_long_cells_wrap_and_short_words_do_not_break() {
        let text = table(Some(64), &ROWS);
        assert!(text.lines().count() > 3, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 64), "{text}");
        let whole = ["REVISION", "service/chat created", "route/chat deleted", "callers"];
        assert!(whole.iter().all(|words| text.contains(words)), "{text}");
        // Too narrow for all: nothing is torn, the terminal folds the lines.
        assert!(table(Some(30), &ROWS).contains("service/chat created"));
    }
}
