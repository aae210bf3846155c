//! Looks up raw configuration values by name, and collects all errors with their locations so that
//! they can be reported together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::value::{Item, Location, Name, Problem, RawValue, Value};
use super::{suggest, toml_value};

/// Looks up values and collects errors.
#[derive(Default)]
pub struct Reader {
    raw: BTreeMap<Name, RawValue>,
    known: BTreeSet<Name>,
    /// Sections without options.
    empty: Vec<(String, Location)>,
    problems: Vec<Problem>,
}

/// A type that an option can have.
pub trait FromConfig: Sized {
    /// The name of the type in error messages.
    const EXPECTED: &'static str;
    /// Converts a raw value. `None` if it has another type.
    fn read(raw: &RawValue) -> Option<Self>;
}

impl Reader {
    /// Adds a value. It replaces an earlier value of the same name.
    pub fn insert(&mut self, name: Name, raw: RawValue) {
        self.raw.insert(name, raw);
    }

    /// Adds a section without options, whose name may still be misspelt.
    pub fn empty_section(&mut self, section: &str, location: Location) {
        self.empty.push((section.to_owned(), location));
    }

    /// Records an error at a location.
    pub fn report(&mut self, location: Location, name: Option<Name>, text: impl Into<String>) {
        let text = text.into();
        self.problems.push(Problem { location, name, text });
    }

    /// The value of an option. `None` if it is not set or is invalid; errors of `parse` are
    /// recorded.
    pub fn option<K: FromConfig, T, E: fmt::Display>(
        &mut self,
        section: &str,
        key: &str,
        parse: impl FnOnce(K) -> Result<T, E>,
    ) -> Option<T> {
        let name = name(section, key);
        self.known.insert(name.clone());
        let raw = self.raw.get(&name)?;
        let value = K::read(raw).ok_or_else(|| format!("must be {}", K::EXPECTED));
        let parsed = value.and_then(|value| parse(value).map_err(|error| error.to_string()));
        let location = raw.location.clone();
        parsed.map_err(|text| self.report(location, Some(name), text)).ok()
    }

    /// The value of an option that is a list of strings. Errors of `parse` are recorded at the
    /// location of the element.
    pub fn list<T>(
        &mut self,
        section: &str,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let items: Vec<Item> = self.option(section, key, Ok::<_, String>)?;
        let mut parsed = Vec::with_capacity(items.len());
        for item in items {
            match parse(&item.text) {
                Ok(value) => parsed.push(value),
                Err(text) => self.report(item.location, Some(name(section, key)), text),
            }
        }
        Some(parsed)
    }

    /// Records an error at the location of an option.
    pub fn error(&mut self, section: &str, key: &str, text: String) {
        let name = name(section, key);
        let raw = self.raw.get(&name);
        let location = raw.map_or(Location::Default, |raw| raw.location.clone());
        self.report(location, Some(name), text);
    }

    /// Whether an option is set.
    pub fn has(&self, section: &str, key: &str) -> bool {
        self.raw.contains_key(&name(section, key))
    }

    /// The number of errors recorded so far.
    pub fn error_count(&self) -> usize {
        self.problems.len()
    }

    /// Records an error for each option that no lookup asked for.
    pub fn report_unknown(&mut self) {
        let unknown: Vec<(Name, Location)> = self
            .raw
            .iter()
            .filter(|(name, _)| !self.known.contains(name))
            .map(|(name, raw)| (name.clone(), raw.location.clone()))
            .collect();
        for (name, location) in unknown {
            let text = suggest::unknown(&name, &self.known, &location);
            self.report(location, Some(name), text);
        }
        for (section, location) in std::mem::take(&mut self.empty) {
            if !self.known.iter().any(|name| name.section == section) {
                let text = suggest::unknown_section(&section, &self.known);
                self.report(location, Some(name(&section, "")), text);
            }
        }
    }

    /// Returns all errors, sorted by location.
    pub fn take_problems(&mut self) -> Vec<Problem> {
        let mut problems = std::mem::take(&mut self.problems);
        problems.sort();
        problems
    }

    /// Every option that was looked up.
    #[cfg(test)]
    pub fn known(&self) -> &BTreeSet<Name> {
        &self.known
    }
}

fn name(section: &str, key: &str) -> Name {
    Name { section: section.to_owned(), key: key.to_owned() }
}

impl FromConfig for String {
    const EXPECTED: &'static str = "a string in quotes";

    fn read(raw: &RawValue) -> Option<Self> {
        match &raw.value {
            Value::Text(text) | Value::Environment(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl FromConfig for i64 {
    const EXPECTED: &'static str = "a whole number";

    fn read(raw: &RawValue) -> Option<Self> {
        match &raw.value {
            Value::Integer(number) => Some(*number),
            Value::Environment(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

impl FromConfig for f64 {
    const EXPECTED: &'static str = "a number";

    fn read(raw: &RawValue) -> Option<Self> {
        match &raw.value {
            Value::Float(number) => Some(*number),
            // Exact: no option accepts integers near 2⁵³.
            Value::Integer(number) => Some(*number as f64),
            Value::Environment(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

impl FromConfig for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(raw: &RawValue) -> Option<Self> {
        match &raw.value {
            Value::Boolean(truth) => Some(*truth),
            Value::Environment(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

impl FromConfig for Vec<Item> {
    const EXPECTED: &'static str = "a list of strings, such as [\"10.0.0.0/8\"]";

    fn read(raw: &RawValue) -> Option<Self> {
        let items = match &raw.value {
            Value::List(items) => items.clone(),
            Value::Environment(text) => toml_value::list(text, &raw.location)?,
            _ => return None,
        };
        let item = |raw: RawValue| Some(Item { text: String::read(&raw)?, location: raw.location });
        items.into_iter().map(item).collect()
    }
}
