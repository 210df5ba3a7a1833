//! The workspace's Rust files, read once.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use segue_tests::binaries::workspace_root;

/// One Rust file.
pub struct SourceFile {
    /// From the root of the workspace.
    pub path: PathBuf,
    pub text: String,
}

impl SourceFile {
    /// Whether the file holds only tests: it may take shortcuts that code may not.
    pub fn is_test(&self) -> bool {
        let in_test_folder = self
            .path
            .components()
            .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "benches" | "fuzz")));
        in_test_folder || self.path.ends_with("tests.rs")
    }

    /// Lines with their numbers, without comments, up to the unit tests at the end of the file.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        self.text[..end].lines().enumerate().filter_map(|(i, line)| {
            let code = line.split("//").next().unwrap_or("");
            (!code.trim().is_empty()).then_some((i + 1, code))
        })
    }
}

/// All Rust files below these folders of the workspace.
pub fn rust_files(folders: &[&str]) -> Vec<SourceFile> {
    let mut files = Vec::new();
    for folder in folders {
        collect(&workspace_root().join(folder), "rs", &mut files);
    }
    files
}

/// Files with this ending below a folder of the workspace; none where the folder is missing.
pub fn files_with_ending(folder: &str, ending: &str) -> Vec<SourceFile> {
    let mut files = Vec::new();
    collect(&workspace_root().join(folder), ending, &mut files);
    files
}

fn collect(folder: &Path, ending: &str, files: &mut Vec<SourceFile>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !path.ends_with("target") && !hidden {
            collect(&path, ending, files);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            let text = fs::read_to_string(&path).unwrap();
            let root = workspace_root();
            let path = path.strip_prefix(root).map(Path::to_owned).unwrap_or(path);
            files.push(SourceFile { path, text });
        }
    }
}

/// Fails with all that was found.
pub fn assert_none(rule: &str, found: &[String]) {
    let mut list = String::new();
    for one in found {
        let _ = write!(list, "\n  {one}");
    }
    assert!(found.is_empty(), "{rule}: {} found{list}", found.len());
}
