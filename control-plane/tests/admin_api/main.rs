//! The admin API as its callers meet it: a whole control plane on loopback.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod changes;
mod clients;
mod conditions;
mod csds;
mod loads;
mod ports;
mod reads;
mod streams;
mod support;
mod tls;
