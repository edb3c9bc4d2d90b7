use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// Which of our crates each library may use. Programs may use every library but those for development.
const ARROWS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("wire", &["domain"]),
    ("store", &["domain"]),
    ("broker", &[]),
    ("runtime", &[]),
    ("sqs", &["runtime"]),
    ("http-client", &["domain"]),
    ("notifier", &["broker", "domain", "runtime", "store", "wire"]),
    ("twilio", &["domain", "http-client", "notifier", "runtime"]),
    ("devservers", &[]),
    ("testkit", &["devservers"]),
    ("bench", &["devservers", "domain", "store", "wire"]),
    // It judges the pipeline, and so must not use what the pipeline is made of.
    ("chaos", &["devservers"]),
    ("xtask", &["chaos", "devservers", "domain"]),
];

const LIBRARIES: &[&str] =
    &["broker", "domain", "http-client", "notifier", "runtime", "sqs", "store", "twilio", "wire"];

/// They try everything, programs too, and nothing else uses them.
const TESTS: &[&str] = &["fuzz-properties", "tests"];

/// Who alone may use these.
const OWNERS: &[(&str, &[&str])] = &[
    ("sqlx", &["store", "testkit"]),
    ("lapin", &["broker"]),
    ("config", &["runtime"]),
    ("aws-sdk-sqs", &["sqs"]),
    ("aws-sdk-sns", &["notifier-sns"]),
];

/// What the pure crates must not know.
const IMPURE: &[&str] = &["tokio", "sqlx", "lapin", "reqwest", "tracing", "metrics"];

fn packages() -> Vec<Package> {
    let metadata = MetadataCommand::new().manifest_path("../Cargo.toml").no_deps().exec().unwrap();
    assert!(metadata.packages.len() > 10, "the workspace has more crates");
    metadata.packages
}

fn dependencies(package: &Package) -> BTreeSet<&str> {
    package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal).map(|d| d.name.as_str()).collect()
}

#[test]
fn every_arrow_between_the_crates_points_the_right_way() {
    let packages = packages();
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in packages.iter().filter(|package| !TESTS.contains(&package.name.as_str())) {
        let name = package.name.as_str();
        let is_program = package.manifest_path.as_str().contains("/bins/");
        let may_use = if is_program { LIBRARIES } else { allowed.get(name).copied().unwrap_or_default() };
        let uses = dependencies(package);
        wrong.extend(
            uses.iter().filter(|d| ours.contains(*d) && !may_use.contains(d)).map(|d| format!("{name} -> {d}")),
        );
    }
    assert!(wrong.is_empty(), "these arrows point the wrong way: {wrong:?}");
}

#[test]
fn each_outside_world_has_one_owner() {
    let mut wrong = Vec::new();
    for package in &packages() {
        let uses = dependencies(package);
        for (library, owners) in OWNERS {
            if uses.contains(library) && !owners.contains(&package.name.as_str()) {
                wrong.push(format!("{} uses {library}", package.name));
            }
        }
        if ["domain", "wire"].contains(&package.name.as_str()) {
            wrong.extend(IMPURE.iter().filter(|d| uses.contains(*d)).map(|d| format!("{} uses {d}", package.name)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn every_main_is_only_an_entrance() {
    for package in packages().iter().filter(|package| package.manifest_path.as_str().contains("/bins/")) {
        let main = package.manifest_path.with_file_name("src/main.rs");
        let lines = std::fs::read_to_string(&main).unwrap().lines().count();
        assert!(lines <= 30, "{main} has {lines} lines");
    }
}
