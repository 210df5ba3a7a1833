//! The admin API as its callers meet it: a whole control plane on loopback.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod changes;
mod conditions;
mod csds;
mod endings;
mod loads;
mod ports;
mod reads;
mod restore;
mod streams;
mod support;
mod tls;
