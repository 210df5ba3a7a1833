//! Why the nodes that are known may not be all that there are.

use std::fmt::{self, Display};

use tokio::time::Instant;

/// Why the nodes that are known may not be all that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsettled {
    pub why: Why,
    /// When that will be over; `None`: nobody can tell.
    pub until: Option<Instant>,
}

/// See [`Unsettled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The control plane has just started.
    Started,
    /// Nothing is heard of the others.
    Deaf,
    /// One of the others has just gone.
    Gone,
}

impl Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => {
                "this control plane has just started, and sidecars may still be on their way back"
            }
            Self::Deaf => {
                "this control plane does not hear of the others on its store, nor of their sidecars"
            }
            Self::Gone => {
                "a control plane has just gone, and its sidecars may be on their way to another"
            }
        })
    }
}
