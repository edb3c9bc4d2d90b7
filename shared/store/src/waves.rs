use std::collections::HashMap;

/// Cuts a batch of requests into waves that can each be applied as one statement: within a wave no process stands
/// twice, and no request stands in an earlier wave than one before it of the same message group.
///
/// `keys` gives the group and the process, if one could be read, of each request. The answer has the positions of
/// each wave.
pub fn cut_waves<'a>(keys: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Vec<Vec<usize>> {
    let mut next_by_process: HashMap<&str, usize> = HashMap::new();
    let mut last_by_group: HashMap<&str, usize> = HashMap::new();
    let mut waves: Vec<Vec<usize>> = Vec::new();
    for (position, (group, process)) in keys.enumerate() {
        let earliest = last_by_group.get(group).copied().unwrap_or_default();
        let wave = process.and_then(|process| next_by_process.get(process)).copied().unwrap_or_default().max(earliest);
        if waves.len() <= wave {
            waves.resize_with(wave + 1, Vec::new);
        }
        waves[wave].push(position);
        last_by_group.insert(group, wave);
        if let Some(process) = process {
            next_by_process.insert(process, wave + 1);
        }
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(keys: &[(&str, Option<&str>)]) -> Vec<Vec<usize>> {
        cut_waves(keys.iter().copied())
    }

    #[test]
    fn each_process_once_a_wave() {
        let a = ("a", Some("a"));
        let b = ("b", Some("b"));
        assert_eq!(waves(&[a, a, b, a, b]), [vec![0, 2], vec![1, 4], vec![3]]);
    }

    #[test]
    fn a_group_keeps_its_order_even_over_several_processes() {
        let keys = [("g", Some("a")), ("g", Some("a")), ("g", Some("b")), ("h", Some("b")), ("g", None)];
        assert_eq!(waves(&keys), [vec![0], vec![1, 2, 4], vec![3]]);
    }

    #[test]
    fn one_process_in_two_groups_is_kept_apart() {
        assert_eq!(waves(&[("g", Some("a")), ("h", Some("a"))]), [vec![0], vec![1]]);
    }
}
