//! What the fuzzer has collected, once more, with an ordinary compiler: every property holds of every file.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fuzz_properties::{PROPERTIES, Property};

/// Slack for a slow machine; each takes some milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// The corpus is kept small: what a target has learned is in its few smallest files.
const MAX_FILE: u64 = 8 * 1024;
const MAX_FILES: usize = 120;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus")
}

fn replay(name: &str) {
    let (_, property): &(_, Property) = PROPERTIES.iter().find(|(known, _)| *known == name).unwrap();
    let files: Vec<_> = fs::read_dir(corpus().join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!((5..=MAX_FILES).contains(&files.len()), "{name}: {} files", files.len());
    for file in files {
        let bytes = fs::read(&file).unwrap();
        assert!(bytes.len() as u64 <= MAX_FILE, "{} is too big to be kept", file.display());
        let begin = Instant::now();
        if std::panic::catch_unwind(|| property(&bytes)).is_err() {
            panic!("{name} does not hold of {}", file.display());
        }
        assert!(begin.elapsed() < LIMIT, "{} took {:?}", file.display(), begin.elapsed());
    }
}

#[test]
fn requests() {
    replay("request");
}

#[test]
fn dispatches() {
    replay("dispatch");
}

#[test]
fn phone_numbers() {
    replay("phone_number");
}

#[test]
fn retry_afters() {
    replay("retry_after");
}

#[test]
fn provider_answers() {
    replay("provider_answer");
}

#[test]
fn smtp_sessions() {
    replay("smtp_session");
}

#[test]
fn every_property_has_a_target_and_a_corpus() {
    let names = |folder: PathBuf| -> BTreeSet<String> {
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let known: BTreeSet<_> = PROPERTIES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(corpus()), known);
    assert_eq!(names(corpus().join("../fuzz_targets")), known);
}
