use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// As many files of a target are kept in the repository; few reach almost all that is reached.
const MAX_FILES: usize = 80;

/// An input, and the edges of the code that it reaches.
#[derive(Debug)]
struct Input {
    path: PathBuf,
    edges: BTreeSet<u64>,
}

/// Adds to `kept` those of the collected inputs that reach most that nothing there reaches, and answers how many there
/// are now.
pub(super) fn keep(target: &Path, kept: &Path, collected: &Path) -> Result<usize> {
    let work = collected.with_file_name("merge");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    let (merged, control) = (work.join("merged"), work.join("control"));
    fs::create_dir_all(&merged)?;
    let output = Command::new(target)
        .args(["-merge=1", "-use_counters=0", "-max_len=4096"])
        .arg(format!("-merge_control_file={}", control.display()))
        .args([&merged, kept, collected])
        .output()?;
    if !output.status.success() {
        bail!("the corpus could not be merged: {}", String::from_utf8_lossy(&output.stderr));
    }
    let inputs = read(&fs::read_to_string(&control)?).context("libFuzzer's control file")?;
    let (old, new): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|input| input.path.starts_with(kept));
    for input in chosen(&old, new, MAX_FILES) {
        let name = input.path.file_name().context("an input without a name")?;
        fs::copy(&input.path, kept.join(name))?;
    }
    fs::remove_dir_all(&work)?;
    Ok(fs::read_dir(kept)?.count())
}

/// The control file of a merge: how many files, how many of them initial, their paths, and for each that was run a line
/// `FT number features...`.
fn read(control: &str) -> Option<Vec<Input>> {
    let mut lines = control.lines();
    let count: usize = lines.next()?.parse().ok()?;
    lines.next()?;
    let paths: Vec<_> = lines.by_ref().take(count).collect();
    let mut inputs = Vec::new();
    for line in lines.filter_map(|line| line.strip_prefix("FT ")) {
        let mut numbers = line.split(' ').filter_map(|number| number.parse::<u64>().ok());
        let path = paths.get(usize::try_from(numbers.next()?).ok()?)?;
        inputs.push(Input { path: path.into(), edges: numbers.collect() });
    }
    Some(inputs)
}

/// Of the new ones, again and again the one that adds most, until there are enough or nothing is added.
fn chosen(old: &[Input], mut new: Vec<Input>, max: usize) -> Vec<Input> {
    let mut reached: BTreeSet<u64> = old.iter().flat_map(|input| &input.edges).copied().collect();
    let mut chosen = Vec::new();
    while old.len() + chosen.len() < max {
        new.retain(|input| !input.edges.is_subset(&reached));
        let best = new.iter().enumerate().max_by_key(|(_, input)| input.edges.difference(&reached).count());
        let Some((n, _)) = best else { break };
        let input = new.swap_remove(n);
        reached.extend(&input.edges);
        chosen.push(input);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_adds_most_is_chosen_first_and_what_adds_nothing_not_at_all() {
        let control = "4\n0\n/old/a\n/new/b\n/new/c\n/new/d\nSTARTED 0 5\nFT 0 1 2\nCOV 0 7\nSTARTED 1 5\nFT 1 2 3\n\
                       STARTED 2 5\nFT 2 3 4 5\nSTARTED 3 5\nFT 3 6\n";
        let inputs = || {
            let inputs = read(control).unwrap();
            inputs.into_iter().partition::<Vec<_>, _>(|input| input.path.starts_with("/old"))
        };
        let names = |max| {
            let (old, new) = inputs();
            chosen(&old, new, max).into_iter().map(|input| input.path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(80), ["/new/c", "/new/d"]);
        assert_eq!(names(2), ["/new/c"]);
        assert!(names(1).is_empty());
    }
}
