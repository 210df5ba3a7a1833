//! What must hold of everything that parses bytes of others: one function of bytes for each target,
//! which panics where it does not hold.
//!
//! `cargo xtask fuzz` feeds them with what LLVM's fuzzer makes up; the test `replay` feeds them with
//! the small corpora in `corpus/TARGET/`, to which every finding is added. Where inputs can be
//! texts they are, so that seeds can be read and written by hand.
//!
//! A new target is a module here, a line in [`TARGETS`], a file in `libfuzzer/fuzz_targets` with its
//! `[[bin]]`, and some seeds; the test names what is forgotten.

mod backup;
mod canonical_host;
mod canonical_path;
mod config;
mod detect;
mod flood;
mod forwarded;
mod header_rules;
mod input;
mod resources;
mod routes;
mod session;
mod spiffe_id;
mod svid;

use segue_sidecar_core::http1::fuzz as http1;
use segue_sidecar_core::http2::fuzz as http2;

/// A target, and what must hold of its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of its corpus and of its program.
    pub name: &'static str,
    pub check: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    // What callers send.
    Target { name: "canonical_path", check: canonical_path::check },
    Target { name: "canonical_host", check: canonical_host::check },
    Target { name: "forwarded", check: forwarded::check },
    Target { name: "header_rules", check: header_rules::check },
    Target { name: "routes", check: routes::check },
    Target { name: "flood", check: flood::check },
    Target { name: "detect", check: detect::check },
    Target { name: "http1_request", check: http1::request_head },
    Target { name: "http1_response", check: http1::response_head },
    Target { name: "http1_chunks", check: http1::chunks },
    Target { name: "http2_hpack", check: http2::hpack },
    Target { name: "http2_head", check: http2::head },
    // What the planes tell each other.
    Target { name: "resources", check: resources::check },
    Target { name: "session_delta", check: session::check_delta },
    Target { name: "session_sotw", check: session::check_state_of_the_world },
    // Who others say they are.
    Target { name: "spiffe_id", check: spiffe_id::check },
    Target { name: "svid", check: svid::check },
    // What people write and keep.
    Target { name: "config", check: config::check },
    Target { name: "backup", check: backup::check },
];

/// Checks an input of a target; panics where the target is not known.
pub fn check(target: &str, bytes: &[u8]) {
    let found = TARGETS.iter().find(|it| it.name == target);
    let found = found.unwrap_or_else(|| panic!("no fuzz target {target}"));
    (found.check)(bytes);
}
