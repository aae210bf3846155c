//! JSON Schemas of payloads: compiled, kept while they are used, and applied.
//!
//! A schema comes from the operator, a payload from anybody. Patterns run on an engine whose time
//! is linear in the payload, and nothing is ever fetched.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use postrider_domain::event::EventTypeName;
use serde_json::Value;

/// Most compiled schemas that are kept. Beyond it one makes room, and is compiled anew when it
/// is wanted again.
const MAX_COMPILED: usize = 1_000;
/// Most violations of one payload that are reported.
const MAX_VIOLATIONS: usize = 100;
/// The only dialect there is.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// What a compiled pattern may take, in bytes.
const MAX_PATTERN_BYTES: usize = 1024 * 1024;

/// What is wrong, and where: a JSON pointer and a description.
pub type Violation = (String, String);

/// Compiled schemas by the name of their event type. An entry counts only while its text is that
/// of the catalogue, so that a change of the schema is heeded at once.
#[derive(Default)]
pub(crate) struct Schemas(Mutex<HashMap<EventTypeName, Compiled>>);

struct Compiled {
    text: String,
    validator: Arc<Validator>,
}

impl Schemas {
    /// How `payload` violates the schema `text` of the event type `name`.
    pub(crate) fn check(&self, name: &EventTypeName, text: &str, payload: &[u8]) -> Vec<Violation> {
        let validator = match self.validator(name, text) {
            Ok(validator) => validator,
            Err(errors) => {
                // It compiled when it was put. To let payloads pass unchecked would break the
                // promise to receivers.
                tracing::error!(event_type = %name, ?errors, "a stored schema does not compile");
                return vec![(String::new(), "cannot be checked: its schema is broken".to_owned())];
            }
        };
        match serde_json::from_slice(payload) {
            Ok(value) => violations(&validator, &value),
            Err(error) => vec![(String::new(), format!("cannot be read: {error}"))],
        }
    }

    fn validator(
        &self,
        name: &EventTypeName,
        text: &str,
    ) -> Result<Arc<Validator>, Vec<Violation>> {
        let known = self
            .lock()
            .get(name)
            .filter(|known| known.text == text)
            .map(|known| known.validator.clone());
        if let Some(validator) = known {
            return Ok(validator);
        }
        let schema =
            serde_json::from_str(text).map_err(|error| vec![(String::new(), error.to_string())])?;
        let validator = Arc::new(compile(&schema)?);
        let compiled = Compiled { text: text.to_owned(), validator: validator.clone() };
        let mut all = self.lock();
        if all.len() >= MAX_COMPILED && !all.contains_key(name) {
            let any = all.keys().next().cloned();
            any.map(|any| all.remove(&any));
        }
        all.insert(name.clone(), compiled);
        Ok(validator)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<EventTypeName, Compiled>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compiles a schema.
///
/// # Errors
/// Everything that is wrong with it.
pub fn compile(schema: &Value) -> Result<Validator, Vec<Violation>> {
    // The meta-schema has eight parts, and each of them would complain.
    if !schema.is_object() && !schema.is_boolean() {
        return Err(vec![(String::new(), "must be an object or a boolean".to_owned())]);
    }
    let dialect = schema.get("$schema").and_then(Value::as_str);
    if dialect.is_some_and(|dialect| dialect.trim_end_matches('#') != DIALECT) {
        return Err(vec![("/$schema".to_owned(), format!("must be {DIALECT}"))]);
    }
    let broken: Vec<_> = jsonschema::draft202012::meta::validator()
        .iter_errors(schema)
        .take(MAX_VIOLATIONS)
        .map(|error| described(&error))
        .collect();
    if !broken.is_empty() {
        return Err(broken);
    }
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN_BYTES))
        .offline()
        .build(schema)
        .map_err(|error| match error.kind() {
            ValidationErrorKind::Referencing(_) => foreign_references(schema, &error),
            _ => vec![described(&error)],
        })
}

/// How `value` violates a schema; empty when it does not.
#[must_use]
pub fn violations(validator: &Validator, value: &Value) -> Vec<Violation> {
    if validator.is_valid(value) {
        return Vec::new();
    }
    let errors = validator.iter_errors(value).take(MAX_VIOLATIONS);
    errors.map(|error| described(&error)).collect()
}

fn described(error: &ValidationError<'_>) -> Violation {
    (error.instance_path().as_str().to_owned(), error.to_string())
}

/// The references that can be to blame for one that leads nowhere: those that leave the schema,
/// or all of it when none does.
fn foreign_references(schema: &Value, error: &ValidationError<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    find_foreign_references(schema, "", &mut found);
    if found.is_empty() {
        found.push((error.instance_path().as_str().to_owned(), error.to_string()));
    }
    found
}

fn find_foreign_references(value: &Value, pointer: &str, found: &mut Vec<Violation>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                let to = value.as_str().filter(|to| !to.starts_with('#'));
                match (name.as_str(), to) {
                    ("$ref" | "$dynamicRef", Some(to)) => {
                        found.push((pointer, format!("refers to {to}, which is never fetched")));
                    }
                    _ => find_foreign_references(value, &pointer, found),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_foreign_references(item, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(schema: &Value) -> Vec<String> {
        let errors = compile(schema).err().unwrap_or_default();
        errors.into_iter().map(|(pointer, _)| pointer).collect()
    }

    #[test]
    fn good_schemas_compile() {
        for schema in [
            json!(true),
            json!({}),
            json!({"$schema": DIALECT, "type": "object", "required": ["a"]}),
            json!({"$defs": {"x": {"pattern": "^[a-z]+$"}}, "$ref": "#/$defs/x"}),
            json!({"$defs": {"x": {"$id": "x", "type": "string"}}, "$ref": "x"}),
        ] {
            assert_eq!(pointers(&schema), [""; 0], "{schema}");
        }
    }

    #[test]
    fn broken_schemas_are_refused_where_they_are_broken() {
        for (schema, pointer) in [
            (json!(7), ""),
            (json!({"type": "strange"}), "/type"),
            (json!({"properties": {"a": {"minLength": -1}}}), "/properties/a/minLength"),
            (json!({"$schema": "http://json-schema.org/draft-07/schema#"}), "/$schema"),
            (json!({"properties": {"a": {"$ref": "https://example.com/x"}}}), "/properties/a/$ref"),
            (json!({"properties": {"a": {"pattern": "("}}}), "/properties/a/pattern"),
            (json!({"pattern": "(a+)+(?=b)"}), "/pattern"),
        ] {
            assert_eq!(pointers(&schema), [pointer], "{schema}");
        }
        assert_eq!(pointers(&json!({"$ref": "#/$defs/missing"})).len(), 1);
    }

    #[test]
    fn patterns_take_linear_time() {
        let validator = compile(&json!({"pattern": "^(a+)+$"})).unwrap();
        let value = Value::String("a".repeat(50_000) + "b");
        assert_eq!(violations(&validator, &value).len(), 1);
    }

    #[test]
    fn a_changed_schema_is_heeded_and_the_cache_is_bounded() {
        let schemas = Schemas::default();
        let name = EventTypeName::parse("a.b").unwrap();
        let (number, text) = (r#"{"type":"number"}"#, r#"{"type":"string"}"#);
        assert!(schemas.check(&name, number, b"1").is_empty());
        assert_eq!(schemas.check(&name, text, b"1").len(), 1);
        for n in 0..MAX_COMPILED + 10 {
            let name = EventTypeName::parse(&format!("t{n}")).unwrap();
            assert!(schemas.check(&name, "true", b"1").is_empty());
        }
        assert_eq!(schemas.lock().len(), MAX_COMPILED);
    }
}
