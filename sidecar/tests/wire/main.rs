//! Sanity on the wire, a row a case: what callers send stands in the table byte by byte, what reaches
//! the upstream is read byte by byte. For every row there is either one clear refusal, a closed
//! connection and nothing sent on, or exactly one canonical request; and a second caller never sees
//! an answer that is not its own. Numbers are those of `RELIABILITY.md` 2a to 2d.

// A broken step is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
mod backpressure;
mod capture;
mod exhaustion;
mod forwarded;
mod framing;
mod h2_frames;
mod h2_judge;
mod h2_messages;
mod h2_streams;
mod headers;
mod hosts;
mod http2;
mod judge;
mod paths;
mod raw_http2;
mod rules;
#[path = "../support/mod.rs"]
mod support;
mod upgrades;
