//! Reads JSON bodies field by field and gathers everything that is wrong on the way.
//!
//! [`Fields`] is an object whose fields are still JSON text. A handler takes each field by name
//! with a function that reads it; what cannot be read leaves a [`FieldError`] with its pointer and
//! gives nothing. [`Fields::finish`] reports the fields that nobody took, and then answers with
//! all of the errors, or with what was read.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::ops::RangeInclusive;

use bytes::Bytes;
use http::StatusCode;
use postrider_domain::event::nests_deeper_than;
use postrider_domain::limits::{MAX_ERROR_CHARS, MAX_JSON_DEPTH, clip};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::web::problem::{FieldError, Problem};

/// Most errors that one answer lists.
const MAX_ERRORS: usize = 1_000;

/// The errors found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<FieldError>);

impl Findings {
    pub(crate) fn add(&mut self, pointer: impl Into<String>, detail: impl Display) {
        if self.0.len() < MAX_ERRORS {
            let detail = clip(&detail.to_string(), MAX_ERROR_CHARS);
            self.0.push(FieldError { pointer: pointer.into(), detail });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An error that lists them all, unless there are none.
    pub(crate) fn verdict(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(self.problem()) }
    }

    /// What was found, as an answer.
    pub(crate) fn problem(self) -> Problem {
        Problem::invalid_fields(self.0)
    }

    /// The errors.
    pub(crate) fn into_errors(self) -> Vec<FieldError> {
        self.0
    }
}

/// An object's fields, each to be taken once.
pub(crate) struct Fields<'a> {
    pointer: String,
    left: Vec<(String, &'a RawValue)>,
    findings: Findings,
}

impl<'a> Fields<'a> {
    /// The fields of a body.
    ///
    /// # Errors
    /// 400 when it is not JSON. That it is no object is found later, with the rest.
    pub(crate) fn of(body: &'a Bytes) -> Result<Self, Problem> {
        let raw: &RawValue = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
        let mut findings = Findings::default();
        let left = entries(raw, "", &mut findings).unwrap_or_default();
        Ok(Self { pointer: String::new(), left, findings })
    }

    /// The fields of a body that may be left out, or `null`, because every field may.
    pub(crate) fn of_optional(body: &'a Bytes) -> Result<Self, Problem> {
        if matches!(&body[..], b"" | b"null") {
            let findings = Findings::default();
            return Ok(Self { pointer: String::new(), left: Vec::new(), findings });
        }
        Self::of(body)
    }

    /// A field that must be there.
    pub(crate) fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Field<'_, 'a>) -> Option<T>,
    ) -> Option<T> {
        match self.take(name) {
            Some(raw) => read(self.field(name, raw)),
            None => {
                self.reject(name, "is required");
                None
            }
        }
    }

    /// A field that may be left out; `null` is as good as absent.
    pub(crate) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Field<'_, 'a>) -> Option<T>,
    ) -> Option<T> {
        let raw = self.take(name).filter(|raw| raw.get() != "null")?;
        read(self.field(name, raw))
    }

    /// A field of a change: absent leaves it as it is, and so `null` would be ambiguous.
    pub(crate) fn change<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Field<'_, 'a>) -> Option<T>,
    ) -> Option<T> {
        let raw = self.take(name)?;
        read(self.field(name, raw))
    }

    /// Notes that a field breaks a rule that no field can tell alone.
    pub(crate) fn reject(&mut self, name: &str, detail: impl Display) {
        self.findings.add(child(&self.pointer, name), detail);
    }

    /// Where to note what is found out elsewhere, such as in the store.
    pub(crate) fn findings(&mut self) -> &mut Findings {
        &mut self.findings
    }

    /// What was read, if nothing at all is wrong.
    ///
    /// # Panics
    /// When nothing was read and nothing is wrong: a reader that gives nothing leaves an error.
    pub(crate) fn finish<T>(self, read: Option<T>) -> Result<T, Problem> {
        self.into_findings().verdict()?;
        Ok(read.expect("a field that cannot be read leaves an error"))
    }

    /// All that is wrong, and the fields that nobody took.
    pub(crate) fn into_findings(mut self) -> Findings {
        for (name, _) in &self.left {
            self.findings.add(child(&self.pointer, name), "is not a known field");
        }
        self.findings
    }

    fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.left.iter().position(|(other, _)| other == name)?;
        Some(self.left.remove(at).1)
    }

    fn field<'f>(&'f mut self, name: &str, raw: &'a RawValue) -> Field<'f, 'a> {
        Field { pointer: child(&self.pointer, name), raw, findings: &mut self.findings }
    }
}

/// One field: its place, its JSON text, and where to note what is wrong with it.
pub(crate) struct Field<'f, 'a> {
    pointer: String,
    raw: &'a RawValue,
    findings: &'f mut Findings,
}

impl<'a> Field<'_, 'a> {
    /// Notes that something is wrong, and gives nothing.
    pub(crate) fn fail<T>(self, detail: impl Display) -> Option<T> {
        self.findings.add(self.pointer, detail);
        None
    }

    /// Its JSON text, byte for byte.
    pub(crate) fn raw(&self) -> &'a RawValue {
        self.raw
    }

    /// A text.
    pub(crate) fn text(self) -> Option<String> {
        match serde_json::from_str(self.raw.get()) {
            Ok(text) => Some(text),
            Err(_) => self.fail("must be a string"),
        }
    }

    /// A text that `parse` accepts.
    pub(crate) fn parse<T, E: Display>(
        self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match serde_json::from_str::<String>(self.raw.get()).map(|text| parse(&text)) {
            Ok(Ok(value)) => Some(value),
            Ok(Err(error)) => self.fail(error),
            Err(_) => self.fail("must be a string"),
        }
    }

    /// One of `choices`, by the name that it has in JSON.
    pub(crate) fn choice<T: Serialize + Copy>(self, choices: &[T]) -> Option<T> {
        self.parse(|text| choose(text, choices))
    }

    /// A whole number within `range`.
    pub(crate) fn integer(self, range: RangeInclusive<u32>) -> Option<u32> {
        let (low, high) = (*range.start(), *range.end());
        match serde_json::from_str(self.raw.get()) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => self.fail(format!("must be a whole number from {low} to {high}")),
        }
    }

    /// True or false.
    pub(crate) fn boolean(self) -> Option<bool> {
        match self.raw.get() {
            "true" => Some(true),
            "false" => Some(false),
            _ => self.fail("must be true or false"),
        }
    }

    /// Any JSON, within the bound on nesting.
    pub(crate) fn value(self) -> Option<Value> {
        if nests_deeper_than(self.raw.get().as_bytes(), MAX_JSON_DEPTH) {
            return self.fail(format!("is nested more than {MAX_JSON_DEPTH} deep"));
        }
        match serde_json::from_str(self.raw.get()) {
            Ok(value) => Some(value),
            Err(error) => self.fail(format!("cannot be read: {error}")),
        }
    }

    /// The items of an array with a length within `lengths`. Each item is read, also after one
    /// that cannot be, so that all errors are found; those that could be read are given with their
    /// pointers.
    pub(crate) fn list<T>(
        self,
        lengths: RangeInclusive<usize>,
        mut read: impl FnMut(Field<'_, 'a>) -> Option<T>,
    ) -> Option<Vec<(String, T)>> {
        let (low, high) = (*lengths.start(), *lengths.end());
        let Ok(items) = serde_json::from_str::<Vec<&'a RawValue>>(self.raw.get()) else {
            return self.fail("must be an array");
        };
        if !lengths.contains(&items.len()) {
            return self.fail(format!("must have {low} to {high} items"));
        }
        let mut values = Vec::with_capacity(items.len());
        for (index, raw) in items.into_iter().enumerate() {
            let pointer = format!("{}/{index}", self.pointer);
            let item = Field { pointer: pointer.clone(), raw, findings: self.findings };
            values.extend(read(item).map(|value| (pointer, value)));
        }
        Some(values)
    }

    /// An object, read as `read` says.
    pub(crate) fn object<T>(self, read: impl FnOnce(&mut Fields<'a>) -> Option<T>) -> Option<T> {
        let left = entries(self.raw, &self.pointer, self.findings)?;
        let findings = std::mem::take(self.findings);
        let mut fields = Fields { pointer: self.pointer, left, findings };
        let value = read(&mut fields);
        *self.findings = fields.into_findings();
        value
    }

    /// An object of texts that `parse` accepts; its errors each name the entry that they are about.
    pub(crate) fn texts<T, E: Display>(
        self,
        parse: impl FnOnce(Vec<(String, String)>) -> Result<T, Vec<(String, E)>>,
    ) -> Option<T> {
        let raw_entries = entries(self.raw, &self.pointer, self.findings)?;
        let count = raw_entries.len();
        let mut texts = Vec::with_capacity(count);
        for (name, raw) in raw_entries {
            let pointer = child(&self.pointer, &name);
            let text = Field { pointer, raw, findings: self.findings }.text();
            texts.extend(text.map(|text| (name, text)));
        }
        let all_are_texts = texts.len() == count;
        match parse(texts) {
            Ok(value) => all_are_texts.then_some(value),
            Err(errors) => {
                for (name, error) in errors {
                    self.findings.add(child(&self.pointer, &name), error);
                }
                None
            }
        }
    }
}

/// The fields of an object, in their order, as JSON text.
fn entries<'a>(
    raw: &'a RawValue,
    pointer: &str,
    findings: &mut Findings,
) -> Option<Vec<(String, &'a RawValue)>> {
    if !raw.get().starts_with('{') {
        findings.add(pointer, "must be an object");
        return None;
    }
    let Entries(all) = match serde_json::from_str(raw.get()) {
        Ok(entries) => entries,
        Err(error) => {
            findings.add(pointer, format!("cannot be read: {error}"));
            return None;
        }
    };
    let mut seen = HashSet::new();
    let mut once = Vec::with_capacity(all.len());
    for (name, raw) in all {
        if seen.insert(name.clone()) {
            once.push((name, raw));
        } else {
            findings.add(child(pointer, &name), "is given twice");
        }
    }
    Some(once)
}

/// An object's fields, those that are given twice among them; a map would hide them.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(all)
            }
        }

        deserializer.deserialize_map(EntriesVisitor).map(Self)
    }
}

fn malformed(error: &serde_json::Error) -> Problem {
    let detail = format!("The body is not JSON: {error}.");
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

/// The pointer to a field of what `parent` points to (RFC 6901 §3).
pub(crate) fn child(parent: &str, name: &str) -> String {
    format!("{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
}

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

#[cfg(test)]
mod tests;
