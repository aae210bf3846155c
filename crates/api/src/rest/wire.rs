//! What answers look like, and how domain values become them.

pub(crate) mod account;
pub(crate) mod delivery;
pub(crate) mod email;
pub(crate) mod endpoint;
pub(crate) mod event;
pub(crate) mod exchange;
pub(crate) mod replay;
pub(crate) mod statistics;

use postrider_store::Page;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct List<T> {
    /// The items, newest first unless the call says otherwise.
    data: Vec<T>,
    /// `cursor` for the next page; null on the last one.
    next_cursor: Option<String>,
}

impl<T> List<T> {
    pub(crate) fn of<F: Into<T>>(page: Page<F>) -> Self {
        Self { data: page.items.into_iter().map(Into::into).collect(), next_cursor: page.next }
    }
}

/// JSON text that was checked when it came in, to be written byte for byte.
pub(crate) fn raw_json(text: String) -> Box<RawValue> {
    RawValue::from_string(text).unwrap_or_else(|error| {
        tracing::error!(%error, "stored JSON is damaged");
        RawValue::NULL.to_owned()
    })
}

/// The schema of a text that is one of `values`, by the names that they have in JSON.
fn choices<T: Serialize>(values: &[T]) -> Object {
    let names = values.iter().map(|value| {
        serde_json::to_value(value).expect("unit variants and texts become JSON strings")
    });
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).build()
}
