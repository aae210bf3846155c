//! Validation of payloads against JSON Schemas, with a cache of compiled schemas.
//!
//! Schemas come from the operator, payloads from any account. Patterns run on a regex engine with
//! linear time, and external references are never fetched.

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use parking_lot::Mutex;
use postrider_domain::event::EventTypeName;
use serde_json::Value;

/// The maximum number of cached schemas. When the cache is full, an arbitrary entry is evicted.
const MAX_CACHED_SCHEMAS: usize = 1_000;
/// The maximum number of violations reported for one payload.
const MAX_VIOLATIONS: usize = 100;
/// The only supported dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// The maximum size of a compiled pattern.
const MAX_PATTERN_BYTES: usize = 1024 * 1024;

/// A JSON pointer and a description of the violation there.
pub type Violation = (String, String);

/// Compiled schemas by event type. An entry is used only if its text equals the schema in the
/// catalogue, so that a changed schema applies immediately.
#[derive(Default)]
pub(crate) struct Schemas(Mutex<HashMap<EventTypeName, Compiled>>);

struct Compiled {
    text: String,
    validator: Arc<Validator>,
}

impl Schemas {
    /// Validates `payload` against the schema `text` of the event type `name`.
    pub(crate) fn check(&self, name: &EventTypeName, text: &str, payload: &[u8]) -> Vec<Violation> {
        let validator = match self.validator(name, text) {
            Ok(validator) => validator,
            Err(errors) => {
                // It compiled when it was stored. Accepting payloads without validation would break
                // the guarantee to receivers.
                tracing::error!(event_type = %name, ?errors, "compiling a stored schema failed");
                let detail = "cannot be validated: the schema of its event type is invalid";
                return vec![(String::new(), detail.to_owned())];
            }
        };
        match serde_json::from_slice(payload) {
            Ok(value) => violations(&validator, &value),
            Err(error) => vec![(String::new(), format!("is not valid JSON: {error}"))],
        }
    }

    fn validator(
        &self,
        name: &EventTypeName,
        text: &str,
    ) -> Result<Arc<Validator>, Vec<Violation>> {
        let cached = self
            .0
            .lock()
            .get(name)
            .filter(|cached| cached.text == text)
            .map(|cached| cached.validator.clone());
        if let Some(validator) = cached {
            return Ok(validator);
        }
        let schema =
            serde_json::from_str(text).map_err(|error| vec![(String::new(), error.to_string())])?;
        let validator = Arc::new(compile(&schema)?);
        let compiled = Compiled { text: text.to_owned(), validator: validator.clone() };
        let mut cache = self.0.lock();
        if cache.len() >= MAX_CACHED_SCHEMAS && !cache.contains_key(name) {
            let evicted = cache.keys().next().cloned();
            evicted.map(|evicted| cache.remove(&evicted));
        }
        cache.insert(name.clone(), compiled);
        Ok(validator)
    }
}

/// Compiles a schema, or returns all of its errors.
pub fn compile(schema: &Value) -> Result<Validator, Vec<Violation>> {
    // Each of the meta-schema's eight vocabularies would report this error.
    if !schema.is_object() && !schema.is_boolean() {
        return Err(vec![(String::new(), "must be an object or a boolean".to_owned())]);
    }
    let dialect = schema.get("$schema").and_then(Value::as_str);
    if dialect.is_some_and(|dialect| dialect.trim_end_matches('#') != DIALECT) {
        return Err(vec![("/$schema".to_owned(), format!("must be {DIALECT}"))]);
    }
    let errors: Vec<_> = jsonschema::draft202012::meta::validator()
        .iter_errors(schema)
        .take(MAX_VIOLATIONS)
        .map(|error| violation(&error))
        .collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN_BYTES))
        .offline()
        .build(schema)
        .map_err(|error| match error.kind() {
            ValidationErrorKind::Referencing(_) => external_references(schema, &error),
            _ => vec![violation(&error)],
        })
}

/// Validates `value`. The result is empty if it is valid.
#[must_use]
pub fn violations(validator: &Validator, value: &Value) -> Vec<Violation> {
    if validator.is_valid(value) {
        return Vec::new();
    }
    let errors = validator.iter_errors(value).take(MAX_VIOLATIONS);
    errors.map(|error| violation(&error)).collect()
}

fn violation(error: &ValidationError<'_>) -> Violation {
    (error.instance_path().as_str().to_owned(), error.to_string())
}

/// The likely causes of an unresolvable reference: all external references, or the error itself if
/// there are none.
fn external_references(schema: &Value, error: &ValidationError<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    find_external_references(schema, "", &mut found);
    if found.is_empty() {
        found.push((error.instance_path().as_str().to_owned(), error.to_string()));
    }
    found
}

fn find_external_references(value: &Value, pointer: &str, found: &mut Vec<Violation>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                let target = value.as_str().filter(|target| !target.starts_with('#'));
                match (name.as_str(), target) {
                    ("$ref" | "$dynamicRef", Some(target)) => {
                        found.push((
                            pointer,
                            format!(
                                "cannot refer to {target}: external references are not supported"
                            ),
                        ));
                    }
                    _ => find_external_references(value, &pointer, found),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_external_references(item, &format!("{pointer}/{index}"), found);
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
    fn valid_schemas_compile() {
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
    fn schema_errors_point_to_the_invalid_keyword() {
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
    fn patterns_match_in_linear_time() {
        let validator = compile(&json!({"pattern": "^(a+)+$"})).unwrap();
        let value = Value::String("a".repeat(50_000) + "b");
        assert_eq!(violations(&validator, &value).len(), 1);
    }

    #[test]
    fn a_changed_schema_applies_immediately_and_the_cache_is_bounded() {
        let schemas = Schemas::default();
        let name = EventTypeName::parse("a.b").unwrap();
        let (number, text) = (r#"{"type":"number"}"#, r#"{"type":"string"}"#);
        assert!(schemas.check(&name, number, b"1").is_empty());
        assert_eq!(schemas.check(&name, text, b"1").len(), 1);
        for n in 0..MAX_CACHED_SCHEMAS + 10 {
            let name = EventTypeName::parse(&format!("t{n}")).unwrap();
            assert!(schemas.check(&name, "true", b"1").is_empty());
        }
        assert_eq!(schemas.0.lock().len(), MAX_CACHED_SCHEMAS);
    }
}
