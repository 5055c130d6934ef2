//! Every target over its corpus, over what once broke it, and over seeded mutations of both.

use std::fs;
use std::path::{Path, PathBuf};

use fuzz_targets::mutate::{Random, mutate};
use fuzz_targets::{TARGETS, Target};

/// Mutations of each target in a test run: some seconds for all of them.
const MUTATIONS: u64 = 20_000;

fn folder(kind: &str, target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(kind).join(target.name)
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            (path.display().to_string(), fs::read(&path).expect("a file"))
        })
        .collect();
    files.sort();
    files
}

/// Runs one input; a panic names where it came from.
fn run(target: &Target, from: &str, bytes: &[u8]) {
    let attempt = std::panic::catch_unwind(|| (target.run)(bytes));
    assert!(attempt.is_ok(), "{}: {from} breaks it: {}", target.name, bytes.escape_ascii());
}

#[test]
fn corpora_and_mutations_of_them_break_nothing() {
    for target in TARGETS {
        let corpus = files(&folder("corpus", target));
        assert!(!corpus.is_empty(), "{} has no corpus", target.name);
        for (path, bytes) in corpus.iter().chain(&files(&folder("crashes", target))) {
            run(target, path, bytes);
        }
        let mut random = Random::new(1);
        for n in 0..MUTATIONS {
            let (_, input) = &corpus[random.below(corpus.len())];
            let (_, other) = &corpus[random.below(corpus.len())];
            run(target, &format!("mutation {n}"), &mutate(input, other, &mut random));
        }
    }
}

#[test]
fn every_target_has_its_program() {
    let manifest =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/Cargo.toml"));
    let manifest = manifest.expect("the manifest of the fuzzing programs");
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
    }
}
