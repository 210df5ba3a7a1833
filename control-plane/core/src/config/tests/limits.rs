//! Whatever comes in, reading ends, within its limits and with a fault that says so.

use std::fmt::Write as _;

use proptest::prelude::*;
use segue_shared::ids::Revision;

use super::super::{Declaration, parse, to_yaml};
use super::{CHAT, text};

fn told(content: &str) -> String {
    parse(&[text("a.yaml", content)]).map_or_else(|it| it.to_string(), |_| String::new())
}

#[test]
fn depth_ends_at_128() {
    for deep in ["[".repeat(200_000), "{a: ".repeat(1000), "- ".repeat(100_000)] {
        let told = told(&deep);
        // The parser itself may give up earlier.
        assert!(told.contains("128") || told.contains("not valid YAML"), "{told}");
    }
}

#[test]
fn aliases_stand_for_10_000_values_at_most() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..30 {
        let before = format!("*a{}", i - 1);
        let _ = writeln!(laughs, "a{i}: &a{i} [{}]", [before.as_str(); 10].join(", "));
    }
    assert!(told(&laughs).contains("stand for more than 10,000 values"), "{}", told(&laughs));
    assert!(told("a: &a [*a]").contains("inside its own anchor"));
}

#[test]
fn an_alias_says_what_its_anchor_says() {
    let content =
        "kind: Service\nmetadata: {name: &name chat}\nspec: {versions: [{name: *name}]}\n";
    let parsed = super::parsed(content);
    assert!(to_yaml(&parsed[0].resource).contains("- name: chat"));
}

#[test]
fn a_document_ends_at_1_mib_and_a_file_at_16() {
    let long = format!("kind: Service # {}\nmetadata: {{name: a}}\n", "x".repeat(1 << 20));
    assert!(
        told(&long).contains("a.yaml:2:1: the document is longer than 1 MiB"),
        "{}",
        told(&long)
    );
    let many = format!("{}---\n", "#".repeat(1000) + "\n").repeat(17_000);
    assert!(told(&many).contains("the file is longer than 16 MiB"), "{}", told(&many));
}

#[test]
fn faults_end_at_1000() {
    let fields = (0..5000).fold(String::new(), |all, i| all + &format!("f{i}: 1\n"));
    let told = parse(&[text("a.yaml", &format!("kind: Service\n{fields}"))]).unwrap_err();
    assert_eq!(told.0.len(), 1001);
    assert_eq!(told.to_string().lines().last(), Some("there is more wrong than these 1000 faults"));
}

/// A quarter of a megabyte of each shape that makes careless readers slow: this test is the one that would
/// hang.
#[test]
fn no_shape_makes_reading_slow() {
    let full = |piece: &str| piece.repeat((1 << 18) / piece.len());
    let mut keys = String::new();
    for i in 0..20_000 {
        let _ = writeln!(keys, "k{i}: 1");
    }
    for content in [
        format!("kind: Service\n{keys}"),
        format!("kind: Service\n{}", full("a: 1\n")),
        format!("kind: Service\nmetadata: {{labels: {{{}}}}}", full("a,")),
        format!("kind: Service\nspec: {{hosts: [{}]}}", full("a,")),
        format!("kind: Route\nspec: {{rules: [{}]}}", full("{},")),
        format!("kind: Service\nspec: \"{}\"", full("x")),
        format!("kind: Service\nspec: |\n{}", full("  x\n")),
        full("? "),
        full("a: "),
        full("["),
        full("---\n"),
        full("'"),
        full("&a "),
        full("\n"),
    ] {
        read(&content);
    }
}

/// Pieces that YAML gives a meaning to.
const PIECES: &[&str] = &[
    ":", ": ", "- ", "\n", "\n  ", "[", "]", "{", "}", "&a ", "*a", "!t ", "|", ">", "'", "\"",
    "#", "%", "---\n", "...\n", "? ", ",", "null", "~", "\t", "\\", "\u{0}", "\u{feff}", "9", "-",
    "<<",
];

proptest! {
    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn pieces_never_panic(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
        read(&pieces.concat());
    }

    #[test]
    fn broken_examples_never_panic(
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0usize..6, prop::sample::select(PIECES)),
            1..6,
        )
    ) {
        let mut content: Vec<char> = CHAT.chars().collect();
        for (at, cut, piece) in edits {
            let at = at.index(content.len());
            let end = (at + cut).min(content.len());
            content.splice(at..end, piece.chars());
        }
        read(&content.into_iter().collect::<String>());
    }
}

/// Reads and checks; what passes comes back as it was printed.
fn read(content: &str) {
    let read = Declaration::default().admit(Revision(1), &[text("a.yaml", content)], &[], &[]);
    if let Ok(admitted) = read {
        for resource in &admitted.batch {
            let again = parse(&[text("b.yaml", &to_yaml(resource))]).map(|mut all| all.remove(0));
            assert_eq!(again.map(|it| it.resource).as_ref(), Ok(resource));
        }
    }
}
