//! Every seed and every finding, once, without a fuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use segue_fuzz::TARGETS;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Names of the files and folders in a folder, without their ending.
fn names_in(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(here(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn what_is_kept_in_the_corpora_holds() {
    for target in TARGETS {
        let folder = here("corpus").join(target.name);
        let mut files: Vec<PathBuf> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 3, "{}: too few seeds", target.name);
        for file in files {
            // The name of a file that fails is the last one told.
            println!("{}", file.display());
            (target.check)(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names_in("libfuzzer/fuzz_targets"), targets);
    assert_eq!(names_in("corpus"), targets);
    let manifest = fs::read_to_string(here("libfuzzer/Cargo.toml")).unwrap();
    for target in &targets {
        assert!(manifest.contains(&format!("\nname = \"{target}\"\n")), "{target} is no [[bin]]");
    }
}
