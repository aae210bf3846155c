//! Named values with the places where they were written, handed out one by one; and everything
//! that is wrong with them, collected so that it is said at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::suggest;

/// `[section] key`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub section: String,
    pub key: String,
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nowhere: it is a default.
    Nowhere,
    /// A file as a whole.
    File(String),
    /// A line of a file.
    Line(String, usize),
    /// A variable of the environment.
    Variable(String),
}

/// One thing that is wrong. Sorts by place, so that a file's problems come in its order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub place: Place,
    pub name: Option<Name>,
    pub text: String,
}

/// A value as it was written.
#[derive(Clone, Debug)]
pub enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<Given>),
    /// A kind that no option has.
    Other,
    /// A variable's text, which is what the option wants it to be.
    Variable(String),
}

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Given {
    pub place: Place,
    pub value: Value,
}

/// An element of a list of texts.
#[derive(Clone, Debug)]
pub struct Item {
    pub place: Place,
    pub text: String,
}

/// Hands out values and collects problems.
#[derive(Default)]
pub struct Reader {
    given: BTreeMap<Name, Given>,
    known: BTreeSet<Name>,
    /// Sections that hold nothing.
    empty: Vec<(String, Place)>,
    problems: Vec<Problem>,
}

/// What an option's value can be.
pub trait Kind: Sized {
    /// What it is called when something else is found.
    const EXPECTED: &'static str;
    /// Reads it; none when it is something else.
    fn read(given: &Given) -> Option<Self>;
}

impl Reader {
    /// Takes in a value; one of the same name from elsewhere gives way.
    pub fn give(&mut self, name: Name, given: Given) {
        self.given.insert(name, given);
    }

    /// Takes in a section that holds nothing, but may be misspelt all the same.
    pub fn section(&mut self, section: &str, place: Place) {
        self.empty.push((section.to_owned(), place));
    }

    /// Notes a problem that is none with an option's value.
    pub fn refuse(&mut self, place: Place, name: Option<Name>, text: impl Into<String>) {
        let text = text.into();
        self.problems.push(Problem { place, name, text });
    }

    /// The value of an option; none when it was not given, or not well. What `parse` complains
    /// of is noted.
    pub fn option<K: Kind, T, E: fmt::Display>(
        &mut self,
        section: &str,
        key: &str,
        parse: impl FnOnce(K) -> Result<T, E>,
    ) -> Option<T> {
        let name = name(section, key);
        self.known.insert(name.clone());
        let given = self.given.get(&name)?;
        let value = K::read(given).ok_or_else(|| format!("must be {}", K::EXPECTED));
        let parsed = value.and_then(|value| parse(value).map_err(|error| error.to_string()));
        let place = given.place.clone();
        parsed.map_err(|text| self.refuse(place, Some(name), text)).ok()
    }

    /// The value of an option that is a list of texts; what `parse` complains of is noted with
    /// the element's own place.
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
                Err(text) => self.refuse(item.place, Some(name(section, key)), text),
            }
        }
        Some(parsed)
    }

    /// Notes a problem with an option's value, at the place where it was given.
    pub fn complain(&mut self, section: &str, key: &str, text: String) {
        let name = name(section, key);
        let given = self.given.get(&name);
        let place = given.map_or(Place::Nowhere, |given| given.place.clone());
        self.refuse(place, Some(name), text);
    }

    /// Whether an option was given.
    pub fn has(&self, section: &str, key: &str) -> bool {
        self.given.contains_key(&name(section, key))
    }

    /// How many problems were noted so far.
    pub fn complaints(&self) -> usize {
        self.problems.len()
    }

    /// Notes each name that was given and that nobody asked for.
    pub fn refuse_unknown(&mut self) {
        let unknown: Vec<(Name, Place)> = self
            .given
            .iter()
            .filter(|(name, _)| !self.known.contains(name))
            .map(|(name, given)| (name.clone(), given.place.clone()))
            .collect();
        for (name, place) in unknown {
            let text = suggest::unknown(&name, &self.known, &place);
            self.refuse(place, Some(name), text);
        }
        for (section, place) in std::mem::take(&mut self.empty) {
            if !self.known.iter().any(|name| name.section == section) {
                let text = suggest::unknown_section(&section, &self.known);
                self.refuse(place, Some(name(&section, "")), text);
            }
        }
    }

    /// What is wrong, in the order of the places.
    pub fn take_problems(&mut self) -> Vec<Problem> {
        let mut problems = std::mem::take(&mut self.problems);
        problems.sort();
        problems
    }

    /// Every option that was asked for.
    #[cfg(test)]
    pub fn known(&self) -> &BTreeSet<Name> {
        &self.known
    }
}

fn name(section: &str, key: &str) -> Name {
    Name { section: section.to_owned(), key: key.to_owned() }
}

impl Kind for String {
    const EXPECTED: &'static str = "a text in quotes";

    fn read(given: &Given) -> Option<Self> {
        match &given.value {
            Value::Text(text) | Value::Variable(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl Kind for i64 {
    const EXPECTED: &'static str = "a whole number";

    fn read(given: &Given) -> Option<Self> {
        match &given.value {
            Value::Integer(number) => Some(*number),
            Value::Variable(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

impl Kind for f64 {
    const EXPECTED: &'static str = "a number";

    fn read(given: &Given) -> Option<Self> {
        match &given.value {
            Value::Float(number) => Some(*number),
            // Whole numbers that an option takes are far below 2⁵³.
            Value::Integer(number) => Some(*number as f64),
            Value::Variable(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

impl Kind for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(given: &Given) -> Option<Self> {
        match &given.value {
            Value::Boolean(truth) => Some(*truth),
            Value::Variable(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

impl Kind for Vec<Item> {
    const EXPECTED: &'static str = "a list of texts, such as [\"10.0.0.0/8\"]";

    fn read(given: &Given) -> Option<Self> {
        let items = match &given.value {
            Value::List(items) => items.clone(),
            Value::Variable(text) => super::environment::list(text, &given.place)?,
            _ => return None,
        };
        let item = |given: Given| Some(Item { text: String::read(&given)?, place: given.place });
        items.into_iter().map(item).collect()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Nowhere => {}
            Place::File(file) => write!(f, "{file}: ")?,
            Place::Line(file, line) => write!(f, "{file}:{line}: ")?,
            // A variable's name tells the option's.
            Place::Variable(variable) => return write!(f, "{variable}: {}", self.text),
        }
        match &self.name {
            Some(name) => write!(f, "{name}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "[{}]", self.section),
            key => write!(f, "[{}] {key}", self.section),
        }
    }
}
