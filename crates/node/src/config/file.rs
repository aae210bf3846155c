//! The file: TOML, each value with the line on which it stands.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Refused;
use super::reader::{Given, Name, Place, Problem, Reader, Value};

/// Gives the reader what the file holds.
///
/// # Errors
/// When the file cannot be read or is not TOML; then nothing else can be said of it.
pub fn read(path: &Path, reader: &mut Reader) -> Result<(), Refused> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let place = Place::File(file.clone());
        refused(place, format!("cannot be read: {error}"))
    })?;
    parse(&file, &text, reader)
}

/// Gives the reader what `text`, the content of `file`, holds.
///
/// # Errors
/// When it is not TOML.
pub fn parse(file: &str, text: &str, reader: &mut Reader) -> Result<(), Refused> {
    let document = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        refused(place(file, text, at), format!("is not TOML: {}", error.message()))
    })?;
    let lines = Lines { file, text };
    for (section, content) in document.get_ref() {
        let DeValue::Table(table) = content.get_ref() else {
            reader.refuse(
                lines.of(section),
                None,
                format!("{}: every option stands in a section, such as [http]", section.get_ref()),
            );
            continue;
        };
        // An empty section has no option that could be unknown, so its own name is looked at.
        if table.is_empty() {
            reader.section(section.get_ref(), lines.of(section));
        }
        for (key, value) in table {
            let name =
                Name { section: section.get_ref().to_string(), key: key.get_ref().to_string() };
            let place = lines.of(key);
            reader.give(name, Given { place, value: lines.value(value) });
        }
    }
    Ok(())
}

/// The elements of `text`, a TOML array; none when it is none.
pub fn array(text: &str) -> Option<Vec<Value>> {
    let document = format!("list = {text}");
    let table = DeTable::parse(&document).ok()?;
    let table = table.get_ref();
    let lines = Lines { file: "", text: "" };
    match table.get("list")?.get_ref() {
        DeValue::Array(items) if table.len() == 1 => {
            Some(items.iter().map(|item| lines.value(item)).collect())
        }
        _ => None,
    }
}

struct Lines<'a> {
    file: &'a str,
    text: &'a str,
}

impl Lines<'_> {
    fn of<T>(&self, spanned: &Spanned<T>) -> Place {
        place(self.file, self.text, spanned.span().start)
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
                let item = |item| Given { place: self.of(item), value: self.value(item) };
                Value::List(items.iter().map(item).collect())
            }
            DeValue::Datetime(_) | DeValue::Table(_) => Value::Other,
        }
    }
}

/// The line of the byte at `at`.
fn place(file: &str, text: &str, at: usize) -> Place {
    let before = text.as_bytes().iter().take(at);
    let line = 1 + before.filter(|byte| **byte == b'\n').count();
    Place::Line(file.to_owned(), line)
}

fn refused(place: Place, text: String) -> Refused {
    let name = None;
    Refused { problems: vec![Problem { place, name, text }] }
}
