//! Response bodies, and their conversion from domain values.

pub(crate) mod account;
pub(crate) mod delivery;
pub(crate) mod email;
pub(crate) mod endpoint;
pub(crate) mod event;
pub(crate) mod exchange;
pub(crate) mod replay;
pub(crate) mod statistics;

use postrider_store::ListPage;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct List<T> {
    /// The items of this page.
    data: Vec<T>,
    /// The cursor of the next page; null on the last page.
    next_cursor: Option<String>,
}

impl<T> List<T> {
    pub(crate) fn from_page<F: Into<T>>(page: ListPage<F>) -> Self {
        Self { data: page.items.into_iter().map(Into::into).collect(), next_cursor: page.next }
    }
}

/// Stored JSON text, written byte for byte. It was validated when it was stored.
pub(crate) fn raw_json(text: String) -> Box<RawValue> {
    RawValue::from_string(text).unwrap_or_else(|error| {
        tracing::error!(%error, "stored JSON is invalid");
        RawValue::NULL.to_owned()
    })
}

/// The schema of a string enum with these values.
fn string_enum<T: Serialize>(values: &[T]) -> Object {
    let names = values.iter().map(|value| {
        serde_json::to_value(value).expect("unit variants and strings serialize to strings")
    });
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).build()
}
