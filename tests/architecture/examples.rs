//! Every example that users may copy is valid.

use segue_control_plane_core::config;
use segue_shared::ids::Revision;

use crate::source::{assert_none, files_with_ending};

/// Folders of configuration that people are shown.
const FOLDERS: &[&str] = &["deploy/examples", "deploy/demo"];

#[test]
fn every_example_can_be_applied() {
    let mut found = Vec::new();
    let mut seen = 0;
    for file in FOLDERS.iter().flat_map(|folder| files_with_ending(folder, "yaml")) {
        seen += 1;
        let name = file.path.display().to_string();
        let text = config::SourceText { name, content: file.text };
        let checked = config::parse(&[text])
            .and_then(|resources| config::check(Revision::default(), &resources));
        if let Err(faults) = checked {
            found.extend(faults.0.iter().map(ToString::to_string));
        }
    }
    assert_none("examples are valid", &found);
    assert!(seen > 0, "there are examples");
}
