//! TOML values with their locations, and lists in environment variables.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::value::{Location, RawValue, Value};

/// Parses a variable as a list: a TOML array, or values separated by commas.
pub fn list(text: &str, location: &Location) -> Option<Vec<RawValue>> {
    let raw = |value: Value| RawValue { location: location.clone(), value };
    if text.trim_start().starts_with('[') {
        let values = array(text)?;
        return Some(values.into_iter().map(raw).collect());
    }
    let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    Some(texts.map(|text| raw(Value::Text(text.to_owned()))).collect())
}

/// The elements of `text` if it is a TOML array.
fn array(text: &str) -> Option<Vec<Value>> {
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

pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    pub(super) fn location_of<T>(&self, spanned: &Spanned<T>) -> Location {
        location(self.file, self.text, spanned.span().start)
    }

    pub(super) fn value(&self, value: &Spanned<DeValue<'_>>) -> Value {
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
pub(super) fn location(file: &str, text: &str, at: usize) -> Location {
    let before = text.as_bytes().iter().take(at);
    let line = 1 + before.filter(|byte| **byte == b'\n').count();
    Location::Line(file.to_owned(), line)
}
