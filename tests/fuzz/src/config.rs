//! Configuration as people write it: YAML or JSON.

use segue_control_plane_core::config::{
    Declaration, SourceText, check as check_all, parse, parse_typed, to_json, to_yaml,
};
use segue_shared::ids::Revision;

/// Nesting of lists and maps.
const MAX_DEPTH: usize = 128;
const MAX_FAULTS: usize = 1000;

pub fn check(bytes: &[u8]) {
    let content = String::from_utf8_lossy(bytes);
    let written = SourceText { name: "a.yaml".to_owned(), content: content.to_string() };
    let parsed = match parse(std::slice::from_ref(&written)) {
        Ok(parsed) => parsed,
        Err(faults) => {
            assert!((1..=MAX_FAULTS + 1).contains(&faults.0.len()));
            let lines = content.split(['\n', '\r']).count() + 1;
            for fault in &faults.0 {
                assert!(!fault.message.is_empty(), "{fault:?}");
                let line = fault.place.as_ref().map_or(0, |place| place.line as usize);
                assert!(line <= lines, "{fault} of {lines} lines");
            }
            return;
        }
    };
    assert!(depth(&content).is_none_or(|depth| depth <= MAX_DEPTH), "too deep");
    for it in &parsed {
        for printed in [to_yaml(&it.resource), to_json(&it.resource).to_string()] {
            let text = SourceText { name: "b.yaml".to_owned(), content: printed.clone() };
            let again = parse(&[text]).unwrap_or_else(|faults| panic!("{faults}\n{printed}"));
            assert_eq!(again.len(), 1, "{printed}");
            assert_eq!(again[0].resource, it.resource, "{printed}");
        }
        let typed = parse_typed(it.resource.clone()).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(typed.resource, it.resource);
    }
    // What is checked as a whole is what is taken in one go.
    let admitted = Declaration::default().admit(Revision(1), &[written], &[], &[]);
    let checked = check_all(Revision(1), &parsed);
    assert_eq!(admitted.is_ok(), checked.is_ok(), "{:?}", checked.err());
}

/// Depth of brackets, where nothing but brackets can have any.
fn depth(content: &str) -> Option<usize> {
    if content.contains(['"', '\'', '#', '|', '>', '\\']) {
        return None;
    }
    let (mut depth, mut deepest) = (0_usize, 0);
    for c in content.chars() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    Some(deepest)
}
