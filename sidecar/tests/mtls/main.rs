//! Hops between workloads that show each other who they are, and those that are not made.

// A broken step is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ages;
mod authority;
mod hops;
mod modes;
mod refusals;
#[path = "../support/mod.rs"]
mod support;
