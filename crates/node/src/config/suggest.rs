//! Suggests the closest known name for an unknown one.

use std::collections::BTreeSet;

use strsim::osa_distance;

use super::value::{Location, Name};

/// The error for an unknown `name`, with the closest known name in the notation of `location`.
pub fn unknown(name: &Name, known: &BTreeSet<Name>, location: &Location) -> String {
    let suggestion = closest(name, known);
    let variable = matches!(location, Location::Variable(_));
    match suggestion {
        Some(suggestion) if variable => {
            let suggestion = suggestion.variable();
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
        .map(|candidate| (osa_distance(candidate, section), candidate))
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
        let section = osa_distance(&candidate.section, &name.section.to_ascii_lowercase());
        let key = osa_distance(&candidate.key, &name.key.to_ascii_lowercase());
        let misplaced = key == 0;
        (section + key <= 3 && key <= 2 || misplaced).then_some(section.min(3) + key)
    };
    known
        .iter()
        .filter_map(|candidate| score(candidate).map(|score| (score, candidate)))
        .min()
        .map(|(_, candidate)| candidate)
}
