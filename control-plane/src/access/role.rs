//! What callers may do, and where.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// What a caller may do; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Also applies and deletes resources.
    Editor,
    /// Everything: also goes back to earlier revisions, takes backups and restores them.
    Operator,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Editor, Self::Operator];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(())
    }
}

/// Where a caller may do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// Everywhere, also in namespaces that do not exist yet.
    All,
    Only(BTreeSet<String>),
}

impl Namespaces {
    pub fn holds(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(namespace),
        }
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all namespaces"),
            Self::Only(names) if names.is_empty() => f.write_str("no namespace"),
            Self::Only(names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let word = if names.len() == 1 { "namespace" } else { "namespaces" };
                write!(f, "{word} {}", names.join(", "))
            }
        }
    }
}
