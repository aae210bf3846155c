//! Environment variables: `POSTRIDER_SECTION__KEY` overrides `[section] key`.
//!
//! Variables without a double underscore are ignored. Some have another meaning
//! (`POSTRIDER_OPERATOR_KEY`), and container platforms derive others from service names
//! (`POSTRIDER_SERVICE_HOST`).

use std::ffi::OsString;

use super::file;
use super::reader::{Location, Name, RawValue, Reader, Value};

const PREFIX: &str = "POSTRIDER_";
const SEPARATOR: &str = "__";

/// Adds the overrides in `environment` to `reader`.
pub fn read(environment: impl IntoIterator<Item = (OsString, OsString)>, reader: &mut Reader) {
    for (variable, value) in environment {
        let Ok(variable) = variable.into_string() else {
            continue;
        };
        let Some(name) = option(&variable) else {
            continue;
        };
        let is_upper_case = variable == self::variable(&name);
        let location = Location::Variable(variable);
        match value.into_string() {
            Ok(text) if is_upper_case => {
                let value = Value::Environment(text);
                reader.insert(name, RawValue { location, value });
            }
            Ok(_) => {
                let expected = self::variable(&name);
                let text = format!("unknown option; names are in upper case, as in {expected}");
                reader.report(location, Some(name), text);
            }
            Err(_) => reader.report(location, Some(name), "is not valid UTF-8"),
        }
    }
}

/// The variable that overrides an option.
pub fn variable(name: &Name) -> String {
    let (section, key) = (&name.section, &name.key);
    format!("{PREFIX}{section}{SEPARATOR}{key}").to_ascii_uppercase()
}

/// The option that a variable overrides.
fn option(variable: &str) -> Option<Name> {
    let (section, key) = variable.strip_prefix(PREFIX)?.split_once(SEPARATOR)?;
    Some(Name { section: section.to_ascii_lowercase(), key: key.to_ascii_lowercase() })
}

/// Parses a variable as a list: a TOML array, or values separated by commas.
pub fn list(text: &str, location: &Location) -> Option<Vec<RawValue>> {
    let raw = |value: Value| RawValue { location: location.clone(), value };
    if text.trim_start().starts_with('[') {
        let values = file::array(text)?;
        return Some(values.into_iter().map(raw).collect());
    }
    let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    Some(texts.map(|text| raw(Value::Text(text.to_owned()))).collect())
}
