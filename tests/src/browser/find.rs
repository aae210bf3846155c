//! Finds elements by the names a user sees.

use std::fmt;

use anyhow::{Context, Result, bail};
use fantoccini::Client;
use fantoccini::elements::{Element, ElementRef};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::SHOWN_WITHIN;
use crate::wait;

const FIND: &str = include_str!("find.js");

/// Describes an element to find.
#[derive(Clone, Copy, Debug)]
pub(super) struct Locator<'a> {
    kind: Kind,
    name: &'a str,
    near: Option<&'a str>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A button, link or summary.
    Action,
    /// A form field.
    Field,
    /// The label of a field, or the field if it has none.
    Label,
}

#[derive(Debug, Deserialize)]
struct Found {
    /// WebDriver element references: objects with one member.
    elements: Vec<Map<String, Value>>,
    /// The names of all elements of this kind.
    names: Vec<String>,
}

impl<'a> Locator<'a> {
    pub(super) fn new(kind: Kind, name: &'a str) -> Self {
        Self { kind, name, near: None }
    }

    /// Prefers the element closest to this text.
    pub(super) fn near(self, text: &'a str) -> Self {
        Self { near: Some(text), ..self }
    }
}

impl fmt::Display for Locator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} {:?}", self.kind.name(), self.name)?;
        self.near.map_or(Ok(()), |near| write!(f, " near {near:?}"))
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Action => "action",
            Self::Field => "field",
            Self::Label => "label",
        }
    }
}

/// Waits for the element and returns it.
///
/// # Errors
/// If no element or more than one matches. The error lists the names on the page.
pub(super) async fn one(client: &Client, locator: &Locator<'_>) -> Result<Element> {
    let mut last = Found { elements: Vec::new(), names: Vec::new() };
    let found = wait::until("the element exists", SHOWN_WITHIN, async || {
        let found = find(client, locator).await?;
        Ok(Some(found).filter(|found| !found.elements.is_empty()))
    })
    .await;
    match found {
        Ok(found) => last = found,
        Err(_) => last.names = find(client, locator).await?.names,
    }
    match &last.elements[..] {
        [one] => element(client, one),
        [] => bail!("did not find {locator} among {:?}", last.names),
        several => bail!("found {} of {locator} among {:?}", several.len(), last.names),
    }
}

/// All matching elements at this moment.
pub(super) async fn all(client: &Client, locator: &Locator<'_>) -> Result<Vec<Element>> {
    let found = find(client, locator).await?;
    found.elements.iter().map(|reference| element(client, reference)).collect()
}

async fn find(client: &Client, locator: &Locator<'_>) -> Result<Found> {
    let near = locator.near.map_or(Value::Null, Value::from);
    let arguments = vec![locator.kind.name().into(), locator.name.into(), near];
    let found = client.execute(FIND, arguments).await;
    serde_json::from_value(found.context("find elements in the page")?)
        .context("read the found elements")
}

fn element(client: &Client, reference: &Map<String, Value>) -> Result<Element> {
    let id = reference
        .values()
        .next()
        .and_then(Value::as_str)
        .context("an element reference has no id")?;
    Ok(Element::from_element_id(client.clone(), ElementRef::from(id.to_owned())))
}
