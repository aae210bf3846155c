//! What an unknown name was probably meant to be.

use std::collections::BTreeSet;

use super::environment;
use super::reader::{Name, Place};

/// Says that `name` is unknown, and which known one is closest, written as it would be at
/// `place`.
pub fn unknown(name: &Name, known: &BTreeSet<Name>, place: &Place) -> String {
    let meant = closest(name, known);
    let variable = matches!(place, Place::Variable(_));
    match meant {
        Some(meant) if variable => {
            let meant = environment::variable(meant);
            format!("unknown option; did you mean {meant}?")
        }
        Some(meant) if meant.section == name.section => {
            format!("unknown key; did you mean \"{}\"?", meant.key)
        }
        Some(meant) => format!("unknown key; did you mean {meant}?"),
        None if variable => "unknown option".to_owned(),
        None => "unknown key".to_owned(),
    }
}

/// Says that no option stands in `section`.
pub fn unknown_section(section: &str, known: &BTreeSet<Name>) -> String {
    let sections = known.iter().map(|name| name.section.as_str());
    let meant = sections
        .map(|candidate| (distance(candidate, section), candidate))
        .filter(|(distance, _)| *distance <= 2)
        .min();
    match meant {
        Some((_, meant)) => format!("unknown section; did you mean [{meant}]?"),
        None => "unknown section".to_owned(),
    }
}

/// The known name with the fewest slips of the pen, if they are few: in the key, in the
/// section, or the right key in the wrong section.
fn closest<'a>(name: &Name, known: &'a BTreeSet<Name>) -> Option<&'a Name> {
    let slips = |candidate: &Name| {
        let section = distance(&candidate.section, &name.section.to_ascii_lowercase());
        let key = distance(&candidate.key, &name.key.to_ascii_lowercase());
        let misplaced = key == 0;
        (section + key <= 3 && key <= 2 || misplaced).then_some(section.min(3) + key)
    };
    known
        .iter()
        .filter_map(|candidate| slips(candidate).map(|slips| (slips, candidate)))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, remove, change or swap to make one text the other (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = changed.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, slips) in [
            ("window", "window", 0),
            ("window", "windwo", 1),
            ("window", "windo", 1),
            ("window", "", 6),
            ("", "", 0),
            ("listen", "lisetnn", 2),
        ] {
            assert_eq!(distance(a, b), slips, "{a} {b}");
        }
    }
}
