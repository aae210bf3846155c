//! The environment: `POSTRIDER_SECTION__KEY` overrides `[section] key`.
//!
//! Variables without the two underscores are not ours to judge: some have a meaning of their
//! own (`POSTRIDER_OPERATOR_KEY`), and container platforms make others from a service's name
//! (`POSTRIDER_SERVICE_HOST`).

use std::ffi::OsString;

use super::file;
use super::reader::{Given, Name, Place, Reader, Value};

const PREFIX: &str = "POSTRIDER_";
const SEPARATOR: &str = "__";

/// Gives the reader what the environment overrides.
pub fn read(environment: impl IntoIterator<Item = (OsString, OsString)>, reader: &mut Reader) {
    for (variable, value) in environment {
        let Ok(variable) = variable.into_string() else {
            continue;
        };
        let Some(name) = option(&variable) else {
            continue;
        };
        let in_capitals = variable == self::variable(&name);
        let place = Place::Variable(variable);
        match value.into_string() {
            Ok(text) if in_capitals => {
                let value = Value::Variable(text);
                reader.give(name, Given { place, value });
            }
            Ok(_) => {
                let meant = self::variable(&name);
                let text = format!("unknown option; names are in capitals, as in {meant}");
                reader.refuse(place, Some(name), text);
            }
            Err(_) => reader.refuse(place, Some(name), "is not UTF-8"),
        }
    }
}

/// The variable of an option.
pub fn variable(name: &Name) -> String {
    let (section, key) = (&name.section, &name.key);
    format!("{PREFIX}{section}{SEPARATOR}{key}").to_ascii_uppercase()
}

/// The option that a variable overrides.
fn option(variable: &str) -> Option<Name> {
    let (section, key) = variable.strip_prefix(PREFIX)?.split_once(SEPARATOR)?;
    Some(Name { section: section.to_ascii_lowercase(), key: key.to_ascii_lowercase() })
}

/// A variable's text as a list: a TOML array, or texts with commas between them.
pub fn list(text: &str, place: &Place) -> Option<Vec<Given>> {
    let given = |value: Value| Given { place: place.clone(), value };
    if text.trim_start().starts_with('[') {
        let values = file::array(text)?;
        return Some(values.into_iter().map(given).collect());
    }
    let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    Some(texts.map(|text| given(Value::Text(text.to_owned()))).collect())
}
