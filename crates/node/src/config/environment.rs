//! Environment variables: `POSTRIDER_SECTION__KEY` overrides `[section] key`.
//!
//! Variables without a double underscore are ignored. Some have another meaning
//! (`POSTRIDER_OPERATOR_KEY`), and container platforms derive others from service names
//! (`POSTRIDER_SERVICE_HOST`).

use std::ffi::OsString;

use super::reader::Reader;
use super::value::{Location, Name, PREFIX, RawValue, SEPARATOR, Value};

/// Adds the overrides in `environment` to `reader`.
pub fn read(environment: impl IntoIterator<Item = (OsString, OsString)>, reader: &mut Reader) {
    for (variable, value) in environment {
        let Ok(variable) = variable.into_string() else {
            continue;
        };
        let Some(name) = option(&variable) else {
            continue;
        };
        let is_upper_case = variable == name.variable();
        let location = Location::Variable(variable);
        match value.into_string() {
            Ok(text) if is_upper_case => {
                let value = Value::Environment(text);
                reader.insert(name, RawValue { location, value });
            }
            Ok(_) => {
                let expected = name.variable();
                let text = format!("unknown option; names are in upper case, as in {expected}");
                reader.report(location, Some(name), text);
            }
            Err(_) => reader.report(location, Some(name), "is not valid UTF-8"),
        }
    }
}

/// The option that a variable overrides.
fn option(variable: &str) -> Option<Name> {
    let (section, key) = variable.strip_prefix(PREFIX)?.split_once(SEPARATOR)?;
    Some(Name { section: section.to_ascii_lowercase(), key: key.to_ascii_lowercase() })
}
