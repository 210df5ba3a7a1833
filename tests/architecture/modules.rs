//! No two modules that import each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::source::{SourceFile, assert_none, rust_files};
use syn::visit::Visit;

const CRATES: &[&str] = &[
    "shared/src",
    "control-plane/src",
    "control-plane/core/src",
    "control-plane/cli/src",
    "sidecar/src",
    "sidecar/core/src",
    "tests/src",
    "tests/bench/src",
    "deploy/demo/src",
    "deploy/xtask/src",
];

/// An import from one module to another, with its place.
struct Import {
    from: Vec<String>,
    to: Vec<String>,
    place: String,
}

#[test]
fn siblings_never_import_each_other() {
    let mut found = Vec::new();
    for folder in CRATES {
        let files = rust_files(&[folder]);
        let imports: Vec<Import> = files
            .iter()
            .filter(|file| !file.is_test())
            .flat_map(|file| imports_of(Path::new(folder), file))
            .collect();
        found.extend(two_way(&imports));
    }
    assert_none("of two modules at most one imports the other", &found);
}

/// Pairs of siblings with imports both ways, at whatever level the paths part.
fn two_way(imports: &[Import]) -> Vec<String> {
    let mut edges: BTreeMap<(Vec<String>, Vec<String>), &str> = BTreeMap::new();
    for import in imports {
        let same = import.from.iter().zip(&import.to).take_while(|(a, b)| a == b).count();
        // A parent and its child are one house, not two.
        if same < import.from.len() && same < import.to.len() {
            let key = (import.from[..=same].to_vec(), import.to[..=same].to_vec());
            edges.entry(key).or_insert(&import.place);
        }
    }
    let mut found = Vec::new();
    for ((a, b), place) in &edges {
        let back = edges.get(&(b.clone(), a.clone()));
        if let Some(back) = back.filter(|_| a < b) {
            found.push(format!(
                "{place}: {} imports {}, and back at {back}",
                a.join("::"),
                b.join("::")
            ));
        }
    }
    found
}

fn imports_of(root: &Path, file: &SourceFile) -> Vec<Import> {
    let Ok(syntax) = syn::parse_file(&file.text) else {
        return Vec::new();
    };
    let from = module_of(root, &file.path);
    let mut paths = Paths { module: from.clone(), found: BTreeSet::new() };
    paths.visit_file(&syntax);
    paths
        .found
        .into_iter()
        .map(|to| {
            let line = line_of(&file.text, &to);
            Import { from: from.clone(), to, place: format!("{}:{line}", file.path.display()) }
        })
        .collect()
}

/// `src/a/b.rs` is `a::b`, `src/a/mod.rs` is `a`, and `lib.rs` and `main.rs` are the root.
fn module_of(root: &Path, path: &Path) -> Vec<String> {
    let path = path.strip_prefix(root).unwrap_or(path).with_extension("");
    let mut module: Vec<String> =
        path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

/// The first line that names the last part of an import; good enough to find it.
fn line_of(text: &str, to: &[String]) -> usize {
    let named = |line: &str| to.iter().all(|part| line.contains(part.as_str()));
    let last = |line: &str| to.last().is_some_and(|part| line.contains(part.as_str()));
    let imports = |line: &&str| line.contains("crate::") || line.contains("super::");
    let position = text
        .lines()
        .position(|line| imports(&line) && named(line))
        .or_else(|| text.lines().position(last));
    position.map_or(1, |i| i + 1)
}

/// Collects every path that begins with `crate::` or `super::`, outside unit tests.
struct Paths {
    module: Vec<String>,
    found: BTreeSet<Vec<String>>,
}

impl Paths {
    /// `crate::a::b` as it is, `super::a` from here; only parts that are modules by their spelling.
    fn add(&mut self, parts: &[String]) {
        let mut at = match parts.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super") => {
                let mut parent = self.module.clone();
                parent.pop();
                parent
            }
            _ => return,
        };
        for part in &parts[1..] {
            if part == "super" {
                at.pop();
            } else if part.starts_with(|c: char| c.is_lowercase()) {
                at.push(part.clone());
            } else {
                break;
            }
        }
        if !at.is_empty() {
            self.found.insert(at);
        }
    }

    fn add_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let mut path = before.to_vec();
        match tree {
            syn::UseTree::Path(next) => {
                path.push(next.ident.to_string());
                self.add_tree(&path, &next.tree);
            }
            syn::UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.add(&path);
            }
            syn::UseTree::Rename(name) => {
                path.push(name.ident.to_string());
                self.add(&path);
            }
            syn::UseTree::Glob(_) => self.add(&path),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(before, tree);
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let test = item.attrs.iter().any(|attribute| {
            let list = attribute.meta.require_list().map(|list| list.tokens.to_string());
            attribute.path().is_ident("cfg") && list.is_ok_and(|tokens| tokens == "test")
        });
        if !test {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // A table of contents that passes a child's names on is no import.
        if matches!(item.vis, syn::Visibility::Inherited) {
            self.add_tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&parts);
        syn::visit::visit_path(self, path);
    }
}

#[test]
fn a_two_way_pair_is_found_below_the_level_where_the_paths_part() {
    let import = |from: &[&str], to: &[&str]| Import {
        from: from.iter().map(ToString::to_string).collect(),
        to: to.iter().map(ToString::to_string).collect(),
        place: from.join("/"),
    };
    let one_way = [import(&["a", "x"], &["b"]), import(&["a"], &["a", "x"])];
    assert!(two_way(&one_way).is_empty());
    let both = [import(&["a", "x"], &["b", "y"]), import(&["b", "z"], &["a"])];
    assert_eq!(two_way(&both), ["a/x: a imports b, and back at b/z"]);
}
