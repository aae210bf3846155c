//! Parsing and rendering of enum values by their JSON names.

use serde::Serialize;
use serde_json::Value;

/// Parses the name of one of `choices`.
pub(crate) fn parse_choice<T: Serialize + Copy>(text: &str, choices: &[T]) -> Result<T, String> {
    let names: Vec<_> = choices.iter().map(json_name).collect();
    match names.iter().position(|name| name == text) {
        Some(at) => Ok(choices[at]),
        None => Err(format!("must be one of {}", names.join(", "))),
    }
}

/// The JSON name of a unit variant.
pub(crate) fn json_name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        other => panic!("choices serialize to strings, not to {other:?}"),
    }
}
