//! What is wrong with an input: all of it at once, each with its place and the way out.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Where in the text; `None` for resources that came parsed.
    pub place: Option<Place>,
    /// Such as `Route default/chat`; empty where not even that is known.
    pub resource: String,
    /// Such as `spec.rules[0].backendRefs[1].weight`; empty for the whole resource.
    pub field_path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: String,
}

/// A place in a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

/// All that is wrong, in the order of files and lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

/// Faults told of one input.
const MAX_FAULTS: usize = 1000;

impl Faults {
    /// `Ok` where nothing is wrong.
    pub(crate) fn unless_none(mut faults: Vec<Fault>) -> Result<(), Self> {
        if faults.len() > MAX_FAULTS {
            faults.truncate(MAX_FAULTS);
            let message = format!("there is more wrong than these {MAX_FAULTS} faults");
            faults.push(Fault { message, ..Fault::default() });
        }
        if faults.is_empty() { Ok(()) } else { Err(Self(faults)) }
    }

    /// Whether one more would be told.
    pub(crate) fn are_read(faults: &[Fault]) -> bool {
        // One more than is told, so that the rest is known to exist.
        faults.len() <= MAX_FAULTS
    }

    /// Adds a fault, as long as anyone would read it.
    pub(crate) fn collect(faults: &mut Vec<Fault>, fault: impl FnOnce() -> Fault) {
        if Self::are_read(faults) {
            faults.push(fault());
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}:{}: ", place.file, place.line, place.column)?;
        }
        if !self.resource.is_empty() {
            write!(f, "{}: ", self.resource)?;
        }
        if !self.field_path.is_empty() {
            write!(f, "{}: ", self.field_path)?;
        }
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
