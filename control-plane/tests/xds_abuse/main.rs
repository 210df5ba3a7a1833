//! The xDS port under clients that break, hurry, stand still or talk nonsense: the others notice
//! nothing, and nothing of them is left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod connections;
mod reports;
mod streams;
mod support;
