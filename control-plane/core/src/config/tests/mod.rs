//! What people write, and what they are told.

mod declaration;
mod faults;
mod limits;
mod mesh;
mod roundtrip;
mod schema;
mod traffic;

use super::{Parsed, SourceText, parse};

/// The example of the design, which every reader must take.
const CHAT: &str = include_str!("chat.yaml");

fn text(name: &str, content: &str) -> SourceText {
    SourceText { name: name.to_owned(), content: content.to_owned() }
}

fn parsed(content: &str) -> Vec<Parsed> {
    match parse(&[text("test.yaml", content)]) {
        Ok(parsed) => parsed,
        Err(faults) => panic!("{faults}"),
    }
}
