//! Values that are written as one of a few names.

use serde::Serialize;
use serde_json::Value;

/// The one of `choices` that `text` names.
pub(crate) fn choose<T: Serialize + Copy>(text: &str, choices: &[T]) -> Result<T, String> {
    let names: Vec<_> = choices.iter().map(name_of).collect();
    match names.iter().position(|name| name == text) {
        Some(at) => Ok(choices[at]),
        None => Err(format!("must be one of {}", names.join(", "))),
    }
}

/// The name that a value without data has in JSON.
pub(crate) fn name_of(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        other => panic!("choices are written as strings, not as {other:?}"),
    }
}
