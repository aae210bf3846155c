//! Validation of payloads against JSON Schemas, with a cache of compiled schemas.
//!
//! Schemas come from the operator, payloads from any account. Patterns run on a regex engine with
//! linear time, and external references are never fetched.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use parking_lot::Mutex;
use postrider_domain::event::EventTypeName;
use postrider_domain::json::{self, JsonError};
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

/// The violation of a payload that was serialized twice.
const DOUBLE_ENCODED: &str = "is a string that contains JSON: double-encoded? Send the object or \
     array itself, or name the type \"string\" in the event type's schema";

/// Compiled schemas by event type. An entry is used only if its text equals the schema in the
/// catalogue, so that a changed schema applies immediately.
#[derive(Default)]
pub(crate) struct Schemas(Mutex<HashMap<EventTypeName, Cached>>);

struct Cached {
    text: String,
    schema: Arc<Schema>,
}

/// A compiled schema.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
    names_string: bool,
}

impl Schemas {
    /// Validates `payload` against the catalogue's entry for the event type `name`, whose schema is
    /// `text`.
    pub(crate) fn check(
        &self,
        name: &EventTypeName,
        text: Option<&str>,
        payload: &[u8],
    ) -> Vec<Violation> {
        match text.map(|text| self.schema(name, text)).transpose() {
            Ok(schema) => violations(schema.as_deref(), payload),
            Err(errors) => {
                // It compiled when it was stored. Accepting payloads without validation would break
                // the guarantee to receivers.
                tracing::error!(event_type = %name, ?errors, "compiling a stored schema failed");
                let detail = "cannot be validated: the schema of its event type is invalid";
                vec![(String::new(), detail.to_owned())]
            }
        }
    }

    /// Validates only that `payload` was not serialized twice.
    pub(crate) fn check_encoding(
        &self,
        name: &EventTypeName,
        text: Option<&str>,
        payload: &[u8],
    ) -> Result<(), Violation> {
        if !json::is_double_encoded(payload) {
            return Ok(());
        }
        let schema = text.and_then(|text| self.schema(name, text).ok());
        encoding_violation(schema.as_deref(), payload).map_or(Ok(()), Err)
    }

    fn schema(&self, name: &EventTypeName, text: &str) -> Result<Arc<Schema>, Vec<Violation>> {
        let cached = self
            .0
            .lock()
            .get(name)
            .filter(|cached| cached.text == text)
            .map(|cached| cached.schema.clone());
        if let Some(schema) = cached {
            return Ok(schema);
        }
        let schema = Arc::new(Schema::parse(text)?);
        let compiled = Cached { text: text.to_owned(), schema: schema.clone() };
        let mut cache = self.0.lock();
        if cache.len() >= MAX_CACHED_SCHEMAS && !cache.contains_key(name) {
            let evicted = cache.keys().next().cloned();
            evicted.map(|evicted| cache.remove(&evicted));
        }
        cache.insert(name.clone(), compiled);
        Ok(schema)
    }
}

impl Schema {
    /// Compiles the text of a schema, or returns all of its errors.
    pub fn parse(text: &str) -> Result<Self, Vec<Violation>> {
        let schema = json::parse(text.as_bytes()).map_err(|error| vec![not_json(&error)])?;
        Ok(Self { validator: compile(&schema)?, names_string: names_string(&schema) })
    }
}

/// Validates `payload`, which is JSON. The result is empty if it is valid.
#[must_use]
pub fn violations(schema: Option<&Schema>, payload: &[u8]) -> Vec<Violation> {
    if let Some(violation) = encoding_violation(schema, payload) {
        return vec![violation];
    }
    let Some(Schema { validator, .. }) = schema else { return Vec::new() };
    match json::parse(payload) {
        Ok(value) if validator.is_valid(&value) => Vec::new(),
        Ok(value) => {
            let errors = validator.iter_errors(&value).take(MAX_VIOLATIONS);
            errors.map(|error| violation(&error)).collect()
        }
        Err(error) => vec![not_json(&error)],
    }
}

/// The violation of a payload that was serialized twice, which only a schema can allow.
fn encoding_violation(schema: Option<&Schema>, payload: &[u8]) -> Option<Violation> {
    let is_allowed = schema.is_some_and(|schema| schema.names_string);
    let is_violation = !is_allowed && json::is_double_encoded(payload);
    is_violation.then(|| (String::new(), DOUBLE_ENCODED.to_owned()))
}

/// The violation of a text that is not JSON.
pub(crate) fn not_json(error: &JsonError) -> Violation {
    (error.pointer.clone(), error.to_string())
}

/// Whether a schema names strings as values, rather than just not excluding them.
fn names_string(root: &Value) -> bool {
    let is_string_type = |name: &Value| name.as_str() == Some("string");
    let mut seen = HashSet::new();
    let mut remaining = vec![root];
    while let Some(schema) = remaining.pop() {
        // References may form cycles.
        if !seen.insert(std::ptr::from_ref(schema)) {
            continue;
        }
        let list = |name| schema.get(name).and_then(Value::as_array).into_iter().flatten();
        if schema.get("type").is_some_and(is_string_type)
            || list("type").any(is_string_type)
            || schema.get("const").is_some_and(Value::is_string)
            || list("enum").any(Value::is_string)
            || schema.get("contentMediaType").is_some()
        {
            return true;
        }
        remaining.extend(["allOf", "anyOf", "oneOf"].into_iter().flat_map(list));
        remaining.extend(["then", "else"].into_iter().filter_map(|name| schema.get(name)));
        let references = ["$ref", "$dynamicRef"].into_iter().filter_map(|name| schema.get(name));
        remaining.extend(references.filter_map(|target| resolve(root, target.as_str()?)));
    }
    false
}

/// The schema within `root` that a reference points to.
fn resolve<'a>(root: &'a Value, target: &str) -> Option<&'a Value> {
    match target.strip_prefix('#') {
        Some(pointer) if pointer.is_empty() || pointer.starts_with('/') => root.pointer(pointer),
        Some(anchor) => ["$anchor", "$dynamicAnchor"]
            .into_iter()
            .find_map(|keyword| find_with(root, keyword, anchor)),
        None => find_with(root, "$id", target),
    }
}

/// An object within `value` whose `keyword` is `name`.
fn find_with<'a>(value: &'a Value, keyword: &str, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) if fields.get(keyword).and_then(Value::as_str) == Some(name) => {
            Some(value)
        }
        Value::Object(fields) => fields.values().find_map(|field| find_with(field, keyword, name)),
        Value::Array(items) => items.iter().find_map(|item| find_with(item, keyword, name)),
        _ => None,
    }
}

/// Compiles a schema, or returns all of its errors.
fn compile(schema: &Value) -> Result<Validator, Vec<Violation>> {
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
        let schema = Schema::parse(r#"{"pattern": "^(a+)+$"}"#).unwrap();
        let payload = format!("\"{}b\"", "a".repeat(50_000));
        assert_eq!(violations(Some(&schema), payload.as_bytes()).len(), 1);
    }

    #[test]
    fn a_changed_schema_applies_immediately_and_the_cache_is_bounded() {
        let schemas = Schemas::default();
        let name = EventTypeName::parse("a.b").unwrap();
        let (number, text) = (r#"{"type":"number"}"#, r#"{"type":"string"}"#);
        assert!(schemas.check(&name, Some(number), b"1").is_empty());
        assert_eq!(schemas.check(&name, Some(text), b"1").len(), 1);
        for n in 0..MAX_CACHED_SCHEMAS + 10 {
            let name = EventTypeName::parse(&format!("t{n}")).unwrap();
            assert!(schemas.check(&name, Some("true"), b"1").is_empty());
        }
        assert_eq!(schemas.0.lock().len(), MAX_CACHED_SCHEMAS);
    }

    #[test]
    fn a_string_that_contains_json_needs_a_schema_that_names_strings() {
        let payload = br#""{\"a\":1}""#;
        let check = |schema: &Value| {
            let schema = Schema::parse(&schema.to_string()).unwrap();
            violations(Some(&schema), payload)
        };
        for allowed in [
            json!({"type": "string"}),
            json!({"type": ["object", "string"]}),
            json!({"anyOf": [{"type": "object"}, {"type": "string"}]}),
            json!({"$ref": "#/$defs/text", "$defs": {"text": {"type": "string"}}}),
            json!({"$ref": "#text", "$defs": {"x": {"$anchor": "text", "type": "string"}}}),
            json!({"$ref": "text", "$defs": {"x": {"$id": "text", "type": "string"}}}),
            json!({"enum": [{}, "{\"a\":1}"]}),
            json!({"contentMediaType": "application/json"}),
        ] {
            assert_eq!(check(&allowed), [], "{allowed}");
        }
        for silent in [
            json!(true),
            json!({}),
            json!({"minLength": 2}),
            json!({"type": "object"}),
            json!({"properties": {"a": {"type": "string"}}}),
            json!({"anyOf": [{"$ref": "#"}, true]}),
        ] {
            let [(pointer, detail)] = &check(&silent)[..] else { panic!("{silent}") };
            assert!(pointer.is_empty() && detail.contains("double-encoded?"), "{silent}: {detail}");
        }
        assert_eq!(violations(None, payload).len(), 1);
        let strict = json!({"type": "string", "maxLength": 2});
        assert_eq!(check(&strict).len(), 1, "a schema that names strings still applies");
    }
}
