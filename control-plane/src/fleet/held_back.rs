//! What this control plane itself keeps from nodes. They stay on an earlier revision.

use std::fmt;

use segue_shared::ids::Revision;
use segue_shared::xds_names::short_type;

use super::record::{Refused, Rejection};

/// Most resources that are told of one gate.
const MAX_TOLD: usize = 100;
/// Most bytes of a reason that are repeated in a line.
const MAX_REASON_BYTES: usize = 300;

/// What a configuration passes on its way from the store to nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The checks of this release.
    Checks,
    /// The compiler, and what nodes can take.
    Compiler,
}

/// What is held back now.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    checks: Vec<Refused>,
    compiler: Vec<Refused>,
}

impl HeldBack {
    /// Whether it is news.
    pub fn replace(&mut self, gate: Gate, mut held: Vec<Refused>) -> bool {
        held.truncate(MAX_TOLD);
        let known = match gate {
            Gate::Checks => &mut self.checks,
            Gate::Compiler => &mut self.compiler,
        };
        let news = *known != held;
        *known = held;
        news
    }

    pub fn iter(&self) -> impl Iterator<Item = &Refused> {
        self.checks.iter().chain(&self.compiler)
    }
}

impl Refused {
    /// Of this control plane: the resource does not go out, an xDS one or one that is declared.
    /// Nodes keep what they were offered before. Where neither type nor name is given, it is all of
    /// a revision.
    pub fn held_back(rejection: Rejection, kept: Revision) -> Self {
        Self { node_id: "".into(), service: "".into(), activated: kept, rejection }
    }

    /// Whether it is no node that refuses: this control plane does not send it.
    pub fn is_held_back(&self) -> bool {
        self.node_id.is_empty()
    }
}

/// A line for people.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rejection { type_url, resource, field_path, reason, revision } = &self.rejection;
        if self.is_held_back() {
            write!(f, "revision {revision} is held back: ")?;
        } else {
            write!(f, "{} refuses ", self.node_id)?;
        }
        if !type_url.is_empty() {
            write!(f, "{} {resource}: ", short_type(type_url))?;
        }
        if !field_path.is_empty() {
            write!(f, "{field_path}: ")?;
        }
        f.write_str(&reason[..reason.floor_char_boundary(MAX_REASON_BYTES)])
    }
}
