//! The verbs as people and scripts meet them: words on the streams, and exit codes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod backup;
mod change;
mod look;
mod network;
mod support;
mod wrong;
