//! Finding what a person would use by what they call it.

use std::fmt;

use anyhow::{Context, Result, bail};
use fantoccini::Client;
use fantoccini::elements::{Element, ElementRef};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::SHOWN_WITHIN;
use crate::wait;

/// Finds by name, in the page.
const FIND: &str = include_str!("find.js");

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    kind: Kind,
    name: &'a str,
    near: Option<&'a str>,
}

/// What kind of thing.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Something to click on.
    Action,
    /// Something to fill in.
    Field,
    /// The label of a field, or the field where it has none.
    Label,
}

/// What the page has.
#[derive(Debug, Deserialize)]
struct Found {
    /// Each as WebDriver writes a reference: an object of one member.
    elements: Vec<Map<String, Value>>,
    /// What things of this kind are called here.
    names: Vec<String>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(kind: Kind, name: &'a str) -> Self {
        Self { kind, name, near: None }
    }

    /// The one that stands with this text.
    pub(super) fn near(self, text: &'a str) -> Self {
        Self { near: Some(text), ..self }
    }
}

impl fmt::Display for Wanted<'_> {
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

/// Waits until there is one, and gives it.
///
/// # Errors
/// When there is none, or one cannot be told from another; the error lists what there is.
pub(super) async fn one(client: &Client, wanted: &Wanted<'_>) -> Result<Element> {
    let mut last = Found { elements: Vec::new(), names: Vec::new() };
    let found = wait::until("it is there", SHOWN_WITHIN, async || {
        let found = look(client, wanted).await?;
        Ok(Some(found).filter(|found| !found.elements.is_empty()))
    })
    .await;
    match found {
        Ok(found) => last = found,
        Err(_) => last.names = look(client, wanted).await?.names,
    }
    match &last.elements[..] {
        [one] => element(client, one),
        [] => bail!("there is not {wanted} among {:?}", last.names),
        several => bail!("there are {} of {wanted} among {:?}", several.len(), last.names),
    }
}

/// All that there are at this moment.
pub(super) async fn all(client: &Client, wanted: &Wanted<'_>) -> Result<Vec<Element>> {
    let found = look(client, wanted).await?;
    found.elements.iter().map(|reference| element(client, reference)).collect()
}

async fn look(client: &Client, wanted: &Wanted<'_>) -> Result<Found> {
    let near = wanted.near.map_or(Value::Null, Value::from);
    let arguments = vec![wanted.kind.name().into(), wanted.name.into(), near];
    let found = client.execute(FIND, arguments).await;
    serde_json::from_value(found.context("look for something in the page")?)
        .context("read what was found in the page")
}

fn element(client: &Client, reference: &Map<String, Value>) -> Result<Element> {
    let id = reference.values().next().and_then(Value::as_str).context("an element")?;
    Ok(Element::from_element_id(client.clone(), ElementRef::from(id.to_owned())))
}
