//! Reads requests field by field, whether they come as JSON or as a form, and gathers all errors on
//! the way.
//!
//! [`Fields`] is an object whose fields have not been parsed. A request type takes each field by
//! name with a function that parses it; a field that cannot be parsed leaves an error with its
//! pointer and gives `None`. [`Fields::finish`] reports the fields that nobody took, and returns all
//! of the errors, or what was read.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::{self, Display};
use std::ops::RangeInclusive;

use bytes::Bytes;
use http::StatusCode;
use postrider_domain::event::{Payload, nests_deeper_than};
use postrider_domain::limits::MAX_JSON_DEPTH;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::web::choice::choose;
use crate::web::findings::{Findings, child};
use crate::web::problem::Problem;

/// An object's fields, each to be taken once.
pub(crate) struct Fields<'a> {
    pointer: String,
    left: Vec<(String, Raw<'a>)>,
    findings: Findings,
    /// The bytes that JSON is a part of, so that a payload can share them.
    body: Option<&'a Bytes>,
}

/// A value that has not been parsed.
#[derive(Clone)]
pub(crate) enum Raw<'a> {
    /// JSON text.
    Json(&'a RawValue),
    /// The text of a form's control.
    Text(&'a str),
    /// The texts of a form's control that has several.
    Texts(Vec<&'a str>),
    /// Names and values, one pair a line of a form's text area.
    Pairs(Vec<(&'a str, &'a str)>),
    /// A form's control whose text could not be taken apart, with the reasons.
    Invalid(Vec<String>),
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
        Ok(Self { pointer: String::new(), left, findings, body: Some(body) })
    }

    /// The fields of a form. A field that was left empty is not among them, unless it may be empty.
    pub(crate) fn of_form(fields: impl IntoIterator<Item = (&'static str, Raw<'a>)>) -> Self {
        let left = fields.into_iter().map(|(name, raw)| (name.to_owned(), raw)).collect();
        Self { pointer: String::new(), left, findings: Findings::default(), body: None }
    }

    /// The fields of a body that may be left out, or `null`, because every field may.
    pub(crate) fn of_optional(body: &'a Bytes) -> Result<Self, Problem> {
        if matches!(&body[..], b"" | b"null") {
            let findings = Findings::default();
            return Ok(Self { pointer: String::new(), left: Vec::new(), findings, body: None });
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
        let raw = self.take(name).filter(|raw| !raw.is_null())?;
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

    /// Whether an error was found, or a field is left that nobody took.
    pub(crate) fn are_invalid(&self) -> bool {
        !self.findings.is_empty() || !self.left.is_empty()
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
        self.into_findings().check()?;
        Ok(read.expect("a field that cannot be read leaves an error"))
    }

    /// All that is wrong, and the fields that nobody took.
    pub(crate) fn into_findings(mut self) -> Findings {
        for (name, _) in &self.left {
            self.findings.add(child(&self.pointer, name), "is not a known field");
        }
        self.findings
    }

    fn take(&mut self, name: &str) -> Option<Raw<'a>> {
        let at = self.left.iter().position(|(other, _)| other == name)?;
        Some(self.left.remove(at).1)
    }

    fn field<'f>(&'f mut self, name: &str, raw: Raw<'a>) -> Field<'f, 'a> {
        let (pointer, body) = (child(&self.pointer, name), self.body);
        Field { pointer, raw, findings: &mut self.findings, body }
    }
}

impl<'a> Raw<'a> {
    fn is_null(&self) -> bool {
        matches!(self, Self::Json(raw) if raw.get() == "null")
    }

    /// The text that it is, if it is one.
    fn text(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Json(raw) => serde_json::from_str(raw.get()).ok().map(Cow::Owned),
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Texts(_) | Self::Pairs(_) | Self::Invalid(_) => None,
        }
    }

    /// The JSON that it is, or that was written into a form.
    fn json(&self) -> Option<&'a str> {
        match self {
            Self::Json(raw) => Some(raw.get()),
            Self::Text(text) => Some(text),
            Self::Texts(_) | Self::Pairs(_) | Self::Invalid(_) => None,
        }
    }
}

/// One field: its pointer, its value, and where to note its errors.
pub(crate) struct Field<'f, 'a> {
    pointer: String,
    raw: Raw<'a>,
    findings: &'f mut Findings,
    body: Option<&'a Bytes>,
}

impl<'a> Field<'_, 'a> {
    /// Notes that something is wrong, and gives nothing.
    pub(crate) fn fail<T>(self, detail: impl Display) -> Option<T> {
        self.findings.add(self.pointer, detail);
        None
    }

    /// Its JSON text, byte for byte.
    pub(crate) fn json(&self) -> &'a str {
        self.raw.json().unwrap_or_default()
    }

    /// A text.
    pub(crate) fn text(self) -> Option<String> {
        match self.raw.text() {
            Some(text) => Some(text.into_owned()),
            None => self.fail("must be a string"),
        }
    }

    /// The payload of an event. JSON shares the bytes of the request's body.
    pub(crate) fn payload(self) -> Option<Payload> {
        let payload = match (&self.raw, self.body) {
            (Raw::Json(raw), Some(body)) => Payload::of_json(body.slice_ref(raw.get().as_bytes())),
            _ => Payload::parse(Bytes::copy_from_slice(self.json().as_bytes())),
        };
        match payload {
            Ok(payload) => Some(payload),
            Err(error) => self.fail(error),
        }
    }

    /// A text that `parse` accepts.
    pub(crate) fn parse<T, E: Display>(
        self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match self.raw.text().map(|text| parse(&text)) {
            Some(Ok(value)) => Some(value),
            Some(Err(error)) => self.fail(error),
            None => self.fail("must be a string"),
        }
    }

    /// One of `choices`, by the name that it has in JSON.
    pub(crate) fn choice<T: Serialize + Copy>(self, choices: &[T]) -> Option<T> {
        self.parse(|text| choose(text, choices))
    }

    /// A whole number within `range`.
    pub(crate) fn integer(self, range: RangeInclusive<u32>) -> Option<u32> {
        let (low, high) = (*range.start(), *range.end());
        match serde_json::from_str(self.json()) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => self.fail(format!("must be a whole number from {low} to {high}")),
        }
    }

    /// True or false.
    pub(crate) fn boolean(self) -> Option<bool> {
        match self.json() {
            "true" => Some(true),
            "false" => Some(false),
            _ => self.fail("must be true or false"),
        }
    }

    /// Any JSON, within the bound on nesting.
    pub(crate) fn value(self) -> Option<Value> {
        if nests_deeper_than(self.json().as_bytes(), MAX_JSON_DEPTH) {
            return self.fail(format!("is nested more than {MAX_JSON_DEPTH} deep"));
        }
        match serde_json::from_str(self.json()) {
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
        let items: Vec<Raw<'a>> = match &self.raw {
            Raw::Texts(texts) => texts.iter().copied().map(Raw::Text).collect(),
            raw => {
                match serde_json::from_str::<Vec<&'a RawValue>>(raw.json().unwrap_or_default()) {
                    Ok(items) => items.into_iter().map(Raw::Json).collect(),
                    Err(_) => return self.fail("must be an array"),
                }
            }
        };
        if !lengths.contains(&items.len()) {
            return self.fail(format!("must have {low} to {high} items"));
        }
        let mut values = Vec::with_capacity(items.len());
        for (index, raw) in items.into_iter().enumerate() {
            let pointer = format!("{}/{index}", self.pointer);
            let (findings, body) = (&mut *self.findings, self.body);
            let item = Field { pointer: pointer.clone(), raw, findings, body };
            values.extend(read(item).map(|value| (pointer, value)));
        }
        Some(values)
    }

    /// An object, read as `read` says.
    pub(crate) fn object<T>(self, read: impl FnOnce(&mut Fields<'a>) -> Option<T>) -> Option<T> {
        let left = self.raw.entries(&self.pointer, self.findings)?;
        let findings = std::mem::take(self.findings);
        let mut fields = Fields { pointer: self.pointer, left, findings, body: self.body };
        let value = read(&mut fields);
        *self.findings = fields.into_findings();
        value
    }

    /// An object of texts that `parse` accepts; its errors each name the entry that they are about.
    pub(crate) fn texts<T, E: Display>(
        self,
        parse: impl FnOnce(Vec<(String, String)>) -> Result<T, Vec<(String, E)>>,
    ) -> Option<T> {
        let raw_entries = self.raw.entries(&self.pointer, self.findings)?;
        let count = raw_entries.len();
        let mut texts = Vec::with_capacity(count);
        for (name, raw) in raw_entries {
            let pointer = child(&self.pointer, &name);
            let (findings, body) = (&mut *self.findings, self.body);
            let text = Field { pointer, raw, findings, body }.text();
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

impl<'a> Raw<'a> {
    /// The fields of an object, in their order.
    fn entries(&self, pointer: &str, findings: &mut Findings) -> Option<Vec<(String, Raw<'a>)>> {
        match self {
            Self::Json(raw) => entries(raw, pointer, findings),
            Self::Pairs(pairs) => {
                let pairs = pairs.iter();
                Some(once(
                    pairs.map(|(name, text)| ((*name).to_owned(), Raw::Text(text))),
                    pointer,
                    findings,
                ))
            }
            Self::Invalid(errors) => {
                errors.iter().for_each(|error| findings.add(pointer, error));
                None
            }
            Self::Text(_) | Self::Texts(_) => {
                findings.add(pointer, "must be an object");
                None
            }
        }
    }
}

/// The fields of a JSON object, in their order.
fn entries<'a>(
    raw: &'a RawValue,
    pointer: &str,
    findings: &mut Findings,
) -> Option<Vec<(String, Raw<'a>)>> {
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
    Some(once(all.into_iter().map(|(name, raw)| (name, Raw::Json(raw))), pointer, findings))
}

/// The fields, each once: a second one of the same name is an error.
fn once<'a>(
    all: impl Iterator<Item = (String, Raw<'a>)>,
    pointer: &str,
    findings: &mut Findings,
) -> Vec<(String, Raw<'a>)> {
    let mut seen = HashSet::new();
    let mut once = Vec::new();
    for (name, raw) in all {
        if seen.insert(name.clone()) {
            once.push((name, raw));
        } else {
            findings.add(child(pointer, &name), "is given twice");
        }
    }
    once
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

#[cfg(test)]
mod tests;
