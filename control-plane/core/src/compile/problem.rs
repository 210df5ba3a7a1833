//! What cannot be sent although the configuration is right.

use std::fmt;

use segue_shared::xds_names::short_type;
use thiserror::Error;

/// A resource that clients could not take.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{} {name} {}", short_type(type_url), self.reason())]
pub struct Problem {
    pub type_url: &'static str,
    pub name: String,
    pub bytes: usize,
    pub max_bytes: usize,
}

impl Problem {
    /// What is wrong with the resource, and the way out.
    pub fn reason(&self) -> String {
        let Self { bytes, max_bytes, .. } = self;
        format!(
            "has {bytes} bytes, and one resource may have {max_bytes}: split what is declared into \
             several services, or let services declare `dependsOn`"
        )
    }
}

/// All that keeps a configuration from being sent; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}
