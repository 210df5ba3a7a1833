//! The configuration under test: services of three versions, each with a weighted route.

use std::fmt::Write as _;
use std::io;

use segue_tests::admin::Admin;
use segue_tests::written::{service, split};

/// Documents of one request: below the limit of its size.
const BATCH: usize = 2_000;

pub fn name(index: usize) -> String {
    format!("service-{index:05}")
}

/// Declares `count` services and gives the revision that holds them all.
pub fn declare(admin: &mut Admin, count: usize) -> io::Result<u64> {
    let all: Vec<usize> = (0..count).collect();
    let mut revision = 0;
    for batch in all.chunks(BATCH) {
        let mut yaml = String::new();
        for &index in batch {
            let _ = write!(yaml, "{}{}", declared(index, 0), weighted(index, 10));
        }
        revision = admin.apply(yaml)?;
    }
    Ok(revision)
}

/// A service, whose second version has moved `turn` times.
pub fn declared(index: usize, turn: usize) -> String {
    let at = |version: usize| {
        let last = 1 + (index + if version == 2 { turn } else { 0 }) % 250;
        vec![([10, version as u8, (index / 250) as u8, last as u8], 8080).into()]
    };
    service(&name(index), &[("v1", at(1)), ("v2", at(2)), ("v3", at(3))])
}

/// Its route, with `percent` on v2 and 5 on v3.
pub fn weighted(index: usize, percent: u32) -> String {
    split(&name(index), &[("v1", 95 - percent), ("v2", percent), ("v3", 5)])
}
