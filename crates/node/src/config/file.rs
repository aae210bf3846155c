//! The TOML file. Each value carries its line number.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::reader::{Location, Name, Problem, RawValue, Reader, Value};

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

/// The elements of `text` if it is a TOML array.
pub fn array(text: &str) -> Option<Vec<Value>> {
    let document = format!("list = {text}");
    let table = DeTable::parse(&document).ok()?;
    let table = table.get_ref();
    let source = Source { file: "", text: "" };
    match table.get("list")?.get_ref() {
        DeValue::Array(items) if table.len() == 1 => {
            Some(items.iter().map(|item| source.value(item)).collect())
        }
        _ => None,
    }
}

struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn location_of<T>(&self, spanned: &Spanned<T>) -> Location {
        location(self.file, self.text, spanned.span().start)
    }

    fn value(&self, value: &Spanned<DeValue<'_>>) -> Value {
        match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Boolean(truth) => Value::Boolean(*truth),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Value::Other, Value::Integer),
            DeValue::Float(number) => {
                let number = number.as_str().parse();
                number.map_or(Value::Other, Value::Float)
            }
            DeValue::Array(items) => {
                let item =
                    |item| RawValue { location: self.location_of(item), value: self.value(item) };
                Value::List(items.iter().map(item).collect())
            }
            DeValue::Datetime(_) | DeValue::Table(_) => Value::Other,
        }
    }
}

/// The line that contains the byte at offset `at`.
fn location(file: &str, text: &str, at: usize) -> Location {
    let before = text.as_bytes().iter().take(at);
    let line = 1 + before.filter(|byte| **byte == b'\n').count();
    Location::Line(file.to_owned(), line)
}

fn single_error(location: Location, text: String) -> ConfigError {
    let name = None;
    ConfigError { problems: vec![Problem { location, name, text }] }
}
