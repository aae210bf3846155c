//! Parses requests field by field, from JSON or from a form, and collects all errors.
//!
//! [`Fields`] is an object with unparsed fields. A request type takes each field by name and parses
//! it. An invalid field adds an error with its pointer and returns `None`. [`Fields::finish`] adds
//! an error for each field that was not taken, and returns all errors or the parsed request.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::{self, Display};
use std::ops::RangeInclusive;

use bytes::Bytes;
use http::StatusCode;
use postrider_domain::event::Payload;
use postrider_domain::json;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::web::choice::parse_choice;
use crate::web::field_errors::{FieldErrors, pointer_to};
use crate::web::problem::Problem;

/// The fields of an object that have not been taken yet, and the errors of those that have.
pub(crate) struct Fields<'a> {
    pointer: String,
    remaining: Vec<(String, Raw<'a>)>,
    errors: FieldErrors,
    /// The whole JSON body, so that a payload can share its bytes.
    body: Option<&'a Bytes>,
}

/// An unparsed value.
#[derive(Clone)]
pub(crate) enum Raw<'a> {
    /// JSON text.
    Json(&'a RawValue),
    /// The value of a form control.
    Text(&'a str),
    /// The values of a form control with multiple values.
    Texts(Vec<&'a str>),
    /// The name-value pairs of a form's text area, one per line.
    Pairs(Vec<(&'a str, &'a str)>),
    /// The errors of a form control that could not be split into pairs.
    Invalid(Vec<String>),
    /// A form control that was left empty, where that means `null`.
    Null,
}

impl<'a> Fields<'a> {
    /// The fields of a JSON body. Malformed JSON is a 400; a body that is not an object is reported
    /// together with the missing fields.
    pub(crate) fn from_json(body: &'a Bytes) -> Result<Self, Problem> {
        let raw: &RawValue = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
        let mut errors = FieldErrors::default();
        let remaining = entries(raw, "", &mut errors).unwrap_or_default();
        Ok(Self { pointer: String::new(), remaining, errors, body: Some(body) })
    }

    /// The fields of a form. The caller omits empty fields unless they may be empty.
    pub(crate) fn from_form(fields: impl IntoIterator<Item = (&'static str, Raw<'a>)>) -> Self {
        let remaining = fields.into_iter().map(|(name, raw)| (name.to_owned(), raw)).collect();
        Self { pointer: String::new(), remaining, errors: FieldErrors::default(), body: None }
    }

    /// The fields of a JSON body that may be empty or `null`, because all of its fields are
    /// optional.
    pub(crate) fn from_optional_json(body: &'a Bytes) -> Result<Self, Problem> {
        if matches!(&body[..], b"" | b"null") {
            let errors = FieldErrors::default();
            return Ok(Self { pointer: String::new(), remaining: Vec::new(), errors, body: None });
        }
        Self::from_json(body)
    }

    /// Takes a required field.
    pub(crate) fn required<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Field<'_, 'a>) -> Option<T>,
    ) -> Option<T> {
        match self.take(name) {
            Some(raw) => parse(self.field(name, raw)),
            None => {
                self.add_error(name, "is required");
                None
            }
        }
    }

    /// Takes an optional field. `null` counts as omitted.
    pub(crate) fn optional<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Field<'_, 'a>) -> Option<T>,
    ) -> Option<T> {
        let raw = self.take(name).filter(|raw| !raw.is_null())?;
        parse(self.field(name, raw))
    }

    /// Takes an optional field that cannot be `null`. In an update `null` would be ambiguous; in a
    /// payload it is a value.
    pub(crate) fn non_null<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Field<'_, 'a>) -> Option<T>,
    ) -> Option<T> {
        let raw = self.take(name)?;
        parse(self.field(name, raw))
    }

    /// Takes an optional field that can be `null`: `Some(None)` is `null`.
    pub(crate) fn nullable<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Field<'_, 'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.take(name)? {
            raw if raw.is_null() => Some(None),
            raw => parse(self.field(name, raw)).map(Some),
        }
    }

    /// Adds an error to a field that was already parsed.
    pub(crate) fn add_error(&mut self, name: &str, detail: impl Display) {
        self.errors.add(pointer_to(&self.pointer, name), detail);
    }

    /// Whether there are errors or unknown fields.
    pub(crate) fn has_errors(&self) -> bool {
        !self.errors.is_empty() || !self.remaining.is_empty()
    }

    /// The errors, to be extended with those of other checks.
    pub(crate) fn errors_mut(&mut self) -> &mut FieldErrors {
        &mut self.errors
    }

    /// Returns the parsed request if there are no errors.
    ///
    /// # Panics
    /// If nothing was parsed and there are no errors: every parser that returns `None` adds an
    /// error.
    pub(crate) fn finish<T>(self, parsed: Option<T>) -> Result<T, Problem> {
        self.into_errors().into_result()?;
        Ok(parsed.expect("a field that cannot be parsed has an error"))
    }

    /// Returns the errors, including one for each unknown field.
    pub(crate) fn into_errors(mut self) -> FieldErrors {
        for (name, _) in &self.remaining {
            self.errors.add(pointer_to(&self.pointer, name), "is not a known field");
        }
        self.errors
    }

    fn take(&mut self, name: &str) -> Option<Raw<'a>> {
        let at = self.remaining.iter().position(|(other, _)| other == name)?;
        Some(self.remaining.remove(at).1)
    }

    fn field<'f>(&'f mut self, name: &str, raw: Raw<'a>) -> Field<'f, 'a> {
        let (pointer, body) = (pointer_to(&self.pointer, name), self.body);
        Field { pointer, raw, errors: &mut self.errors, body }
    }
}

impl<'a> Raw<'a> {
    fn is_null(&self) -> bool {
        match self {
            Self::Json(raw) => raw.get() == "null",
            Self::Null => true,
            Self::Text(_) | Self::Texts(_) | Self::Pairs(_) | Self::Invalid(_) => false,
        }
    }

    /// The string, if the value is one.
    fn string(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Json(raw) => serde_json::from_str(raw.get()).ok().map(Cow::Owned),
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Texts(_) | Self::Pairs(_) | Self::Invalid(_) | Self::Null => None,
        }
    }

    /// The JSON text, which may come from a form control.
    fn json(&self) -> Option<&'a str> {
        match self {
            Self::Json(raw) => Some(raw.get()),
            Self::Text(text) => Some(text),
            Self::Texts(_) | Self::Pairs(_) | Self::Invalid(_) | Self::Null => None,
        }
    }
}

/// An unparsed field: its pointer, its value, and the error list.
pub(crate) struct Field<'f, 'a> {
    pointer: String,
    raw: Raw<'a>,
    errors: &'f mut FieldErrors,
    body: Option<&'a Bytes>,
}

impl<'a> Field<'_, 'a> {
    /// Adds an error and returns `None`.
    pub(crate) fn fail<T>(self, detail: impl Display) -> Option<T> {
        self.errors.add(self.pointer, detail);
        None
    }

    /// Adds an error to the value at `pointer` within the field, and returns `None`.
    fn fail_at<T>(self, pointer: &str, detail: impl Display) -> Option<T> {
        self.errors.add(self.pointer + pointer, detail);
        None
    }

    /// The JSON text, byte for byte.
    pub(crate) fn json(&self) -> &'a str {
        self.raw.json().unwrap_or_default()
    }

    /// Parses a string.
    pub(crate) fn string(self) -> Option<String> {
        match self.raw.string() {
            Some(text) => Some(text.into_owned()),
            None => self.fail("must be a string"),
        }
    }

    /// Parses an event payload. A JSON payload shares the bytes of the request body.
    pub(crate) fn payload(self) -> Option<Payload> {
        let payload = match (&self.raw, self.body) {
            (Raw::Json(raw), Some(body)) => Payload::parse(body.slice_ref(raw.get().as_bytes())),
            _ => Payload::parse(Bytes::copy_from_slice(self.json().as_bytes())),
        };
        match payload {
            Ok(payload) => Some(payload),
            Err(error) => self.fail_at(error.pointer(), &error),
        }
    }

    /// Parses a string with `parse`.
    pub(crate) fn parse<T, E: Display>(
        self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match self.raw.string().map(|text| parse(&text)) {
            Some(Ok(value)) => Some(value),
            Some(Err(error)) => self.fail(error),
            None => self.fail("must be a string"),
        }
    }

    /// Parses one of `choices` by its JSON name.
    pub(crate) fn choice<T: Serialize + Copy>(self, choices: &[T]) -> Option<T> {
        self.parse(|text| parse_choice(text, choices))
    }

    /// Parses an integer within `range`.
    pub(crate) fn integer(self, range: RangeInclusive<u32>) -> Option<u32> {
        let (low, high) = (*range.start(), *range.end());
        match serde_json::from_str(self.json()) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => self.fail(format!("must be an integer from {low} to {high}")),
        }
    }

    /// Parses a number.
    pub(crate) fn number(self) -> Option<f64> {
        match serde_json::from_str(self.json()) {
            Ok(number) => Some(number),
            Err(_) => self.fail("must be a number"),
        }
    }

    /// Parses a boolean.
    pub(crate) fn boolean(self) -> Option<bool> {
        match self.json() {
            "true" => Some(true),
            "false" => Some(false),
            _ => self.fail("must be true or false"),
        }
    }

    /// Parses any JSON value, by the rules for payloads.
    pub(crate) fn value(self) -> Option<Value> {
        match json::parse(self.json().as_bytes()) {
            Ok(value) => Some(value),
            Err(error) => self.fail_at(&error.pointer, &error),
        }
    }

    /// Parses an array whose length is within `lengths`. All items are parsed, so that all errors
    /// are found. Returns the valid items with their pointers.
    pub(crate) fn list<T>(
        self,
        lengths: RangeInclusive<usize>,
        mut parse_item: impl FnMut(Field<'_, 'a>) -> Option<T>,
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
            let (errors, body) = (&mut *self.errors, self.body);
            let item = Field { pointer: pointer.clone(), raw, errors, body };
            values.extend(parse_item(item).map(|value| (pointer, value)));
        }
        Some(values)
    }

    /// Parses an object with `parse`.
    pub(crate) fn object<T>(self, parse: impl FnOnce(&mut Fields<'a>) -> Option<T>) -> Option<T> {
        let remaining = self.raw.entries(&self.pointer, self.errors)?;
        let errors = std::mem::take(self.errors);
        let mut fields = Fields { pointer: self.pointer, remaining, errors, body: self.body };
        let value = parse(&mut fields);
        *self.errors = fields.into_errors();
        value
    }

    /// Parses an object of strings. `parse` returns its errors with the names of the entries.
    pub(crate) fn string_map<T, E: Display>(
        self,
        parse: impl FnOnce(Vec<(String, String)>) -> Result<T, Vec<(String, E)>>,
    ) -> Option<T> {
        let raw_entries = self.raw.entries(&self.pointer, self.errors)?;
        let count = raw_entries.len();
        let mut strings = Vec::with_capacity(count);
        for (name, raw) in raw_entries {
            let pointer = pointer_to(&self.pointer, &name);
            let (errors, body) = (&mut *self.errors, self.body);
            let string = Field { pointer, raw, errors, body }.string();
            strings.extend(string.map(|string| (name, string)));
        }
        let all_are_strings = strings.len() == count;
        match parse(strings) {
            Ok(value) => all_are_strings.then_some(value),
            Err(errors) => {
                for (name, error) in errors {
                    self.errors.add(pointer_to(&self.pointer, &name), error);
                }
                None
            }
        }
    }
}

impl<'a> Raw<'a> {
    /// The entries of an object, in order.
    fn entries(&self, pointer: &str, errors: &mut FieldErrors) -> Option<Vec<(String, Raw<'a>)>> {
        match self {
            Self::Json(raw) => entries(raw, pointer, errors),
            Self::Pairs(pairs) => {
                let pairs = pairs.iter();
                Some(without_duplicates(
                    pairs.map(|(name, text)| ((*name).to_owned(), Raw::Text(text))),
                    pointer,
                    errors,
                ))
            }
            Self::Invalid(details) => {
                details.iter().for_each(|detail| errors.add(pointer, detail));
                None
            }
            Self::Text(_) | Self::Texts(_) | Self::Null => {
                errors.add(pointer, "must be an object");
                None
            }
        }
    }
}

/// The entries of a JSON object, in order.
fn entries<'a>(
    raw: &'a RawValue,
    pointer: &str,
    errors: &mut FieldErrors,
) -> Option<Vec<(String, Raw<'a>)>> {
    if !raw.get().starts_with('{') {
        errors.add(pointer, "must be an object");
        return None;
    }
    let Entries(all) = match serde_json::from_str(raw.get()) {
        Ok(entries) => entries,
        Err(error) => {
            errors.add(pointer, format!("cannot be parsed: {error}"));
            return None;
        }
    };
    let all = all.into_iter().map(|(name, raw)| (name, Raw::Json(raw)));
    Some(without_duplicates(all, pointer, errors))
}

/// Keeps the first entry of each name, and adds an error for each duplicate.
fn without_duplicates<'a>(
    all: impl Iterator<Item = (String, Raw<'a>)>,
    pointer: &str,
    errors: &mut FieldErrors,
) -> Vec<(String, Raw<'a>)> {
    let mut seen = HashSet::new();
    let mut unique = Vec::new();
    for (name, raw) in all {
        if seen.insert(name.clone()) {
            unique.push((name, raw));
        } else {
            errors.add(pointer_to(pointer, &name), "is duplicated");
        }
    }
    unique
}

/// The entries of an object including duplicates, which a map would hide.
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
    let detail = format!("The request body is not valid JSON: {error}.");
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

#[cfg(test)]
mod tests;
