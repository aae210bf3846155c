//! The TOML file. Each value carries its line number.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::reader::Reader;
use super::toml_value::{Source, location};
use super::value::{Location, Name, Problem, RawValue};

/// Adds the options in the file at `path` to `reader`.
///
/// # Errors
/// If the file cannot be read or is not valid TOML. Errors in single options go to the reader.
pub fn read(path: &Path, reader: &mut Reader) -> Result<(), ConfigError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let location = Location::File(file.clone());
        single_error(location, format!("cannot be read: {error}"))
    })?;
    parse(&file, &text, reader)
}

/// Adds the options in `text`, the content of `file`, to `reader`.
///
/// # Errors
/// If it is not valid TOML.
pub fn parse(file: &str, text: &str, reader: &mut Reader) -> Result<(), ConfigError> {
    let document = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        single_error(location(file, text, at), format!("is not valid TOML: {}", error.message()))
    })?;
    let source = Source { file, text };
    for (section, content) in document.get_ref() {
        let DeValue::Table(table) = content.get_ref() else {
            reader.report(
                source.location_of(section),
                None,
                format!("{}: options must be in a section, such as [http]", section.get_ref()),
            );
            continue;
        };
        // An empty section has no unknown option to report, so its name is checked instead.
        if table.is_empty() {
            reader.empty_section(section.get_ref(), source.location_of(section));
        }
        for (key, value) in table {
            let name =
                Name { section: section.get_ref().to_string(), key: key.get_ref().to_string() };
            let location = source.location_of(key);
            reader.insert(name, RawValue { location, value: source.value(value) });
        }
    }
    Ok(())
}

fn single_error(location: Location, text: String) -> ConfigError {
    let name = None;
    ConfigError { problems: vec![Problem { location, name, text }] }
}
