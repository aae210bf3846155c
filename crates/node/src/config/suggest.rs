//! Suggests the closest known name for an unknown one.

use std::collections::BTreeSet;

use super::environment;
use super::reader::{Location, Name};

/// The error for an unknown `name`, with the closest known name in the notation of `location`.
pub fn unknown(name: &Name, known: &BTreeSet<Name>, location: &Location) -> String {
    let suggestion = closest(name, known);
    let variable = matches!(location, Location::Variable(_));
    match suggestion {
        Some(suggestion) if variable => {
            let suggestion = environment::variable(suggestion);
            format!("unknown option; did you mean {suggestion}?")
        }
        Some(suggestion) if suggestion.section == name.section => {
            format!("unknown key; did you mean \"{}\"?", suggestion.key)
        }
        Some(suggestion) => format!("unknown key; did you mean {suggestion}?"),
        None if variable => "unknown option".to_owned(),
        None => "unknown key".to_owned(),
    }
}

/// The error for an unknown `section`.
pub fn unknown_section(section: &str, known: &BTreeSet<Name>) -> String {
    let sections = known.iter().map(|name| name.section.as_str());
    let suggestion = sections
        .map(|candidate| (distance(candidate, section), candidate))
        .filter(|(distance, _)| *distance <= 2)
        .min();
    match suggestion {
        Some((_, suggestion)) => format!("unknown section; did you mean [{suggestion}]?"),
        None => "unknown section".to_owned(),
    }
}

/// The known name with the smallest edit distance, if that is small. A correct key in the wrong
/// section also matches.
fn closest<'a>(name: &Name, known: &'a BTreeSet<Name>) -> Option<&'a Name> {
    let score = |candidate: &Name| {
        let section = distance(&candidate.section, &name.section.to_ascii_lowercase());
        let key = distance(&candidate.key, &name.key.to_ascii_lowercase());
        let misplaced = key == 0;
        (section + key <= 3 && key <= 2 || misplaced).then_some(section.min(3) + key)
    };
    known
        .iter()
        .filter_map(|candidate| score(candidate).map(|score| (score, candidate)))
        .min()
        .map(|(_, candidate)| candidate)
}

/// The edit distance, with transpositions (optimal string alignment).
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
    fn edit_distance_counts_each_kind_of_typo() {
        for (a, b, edits) in [
            ("window", "window", 0),
            ("window", "windwo", 1),
            ("window", "windo", 1),
            ("window", "", 6),
            ("", "", 0),
            ("listen", "lisetnn", 2),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
