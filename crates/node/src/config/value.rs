//! Configuration values before they are parsed: their names, locations and errors.

use std::fmt;

/// What the variables that override options begin with, and what separates section and key.
pub(super) const PREFIX: &str = "POSTRIDER_";
pub(super) const SEPARATOR: &str = "__";

/// `[section] key`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub section: String,
    pub key: String,
}

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// Not set: the value is the default.
    Default,
    /// The whole file.
    File(String),
    /// A line of a file.
    Line(String, usize),
    /// An environment variable.
    Variable(String),
}

/// A configuration error. Errors sort by location, so those of a file are in line order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub location: Location,
    pub name: Option<Name>,
    pub text: String,
}

/// An unparsed value.
#[derive(Clone, Debug)]
pub enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<RawValue>),
    /// A TOML type that no option accepts.
    Other,
    /// The text of an environment variable, to be parsed as the option's type.
    Environment(String),
}

/// An unparsed value with its location.
#[derive(Clone, Debug)]
pub struct RawValue {
    pub location: Location,
    pub value: Value,
}

/// An element of a list of strings.
#[derive(Clone, Debug)]
pub struct Item {
    pub location: Location,
    pub text: String,
}

impl Name {
    /// The environment variable that overrides the option.
    pub fn variable(&self) -> String {
        let Self { section, key } = self;
        format!("{PREFIX}{section}{SEPARATOR}{key}").to_ascii_uppercase()
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

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Location::Default => {}
            Location::File(file) => write!(f, "{file}: ")?,
            Location::Line(file, line) => write!(f, "{file}:{line}: ")?,
            // The variable's name already names the option.
            Location::Variable(variable) => return write!(f, "{variable}: {}", self.text),
        }
        match &self.name {
            Some(name) => write!(f, "{name}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}
