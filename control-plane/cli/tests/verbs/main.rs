//! The verbs as people and scripts meet them: words on the streams, and exit codes.

mod change;
mod look;
mod support;
mod wrong;
