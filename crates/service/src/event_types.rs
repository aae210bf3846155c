//! The catalogue of event types.

use postrider_domain::event::{EventType, EventTypeName};

use crate::Service;
use crate::error::{InvalidField, Resource, ServiceError};
use crate::schemas;

impl Service {
    /// An event type.
    ///
    /// # Errors
    /// `NotFound`, or the store's error.
    pub async fn event_type(&self, name: &EventTypeName) -> Result<EventType, ServiceError> {
        let entry = self.records().event_type(name).await?;
        entry.ok_or(ServiceError::NotFound(Resource::EventType))
    }

    /// Adds an event type to the catalogue, or replaces it.
    ///
    /// # Errors
    /// [`ServiceError::InvalidFields`] if the schema is no JSON Schema or the example violates it,
    /// or the store's error.
    pub async fn put_event_type(&self, entry: EventType) -> Result<EventType, ServiceError> {
        let invalid = check_schema(entry.schema.as_deref(), Some(&entry.example));
        if !invalid.is_empty() {
            return Err(ServiceError::InvalidFields(invalid));
        }
        Ok(self.records().put_event_type(entry).await?)
    }

    /// Removes an event type from the catalogue.
    ///
    /// # Errors
    /// `NotFound`, or the store's error.
    pub async fn delete_event_type(&self, name: &EventTypeName) -> Result<(), ServiceError> {
        match self.records().delete_event_type(name).await? {
            true => Ok(()),
            false => Err(ServiceError::NotFound(Resource::EventType)),
        }
    }
}

/// What is wrong with a schema, or with an example that must satisfy it. Both are JSON.
#[must_use]
pub fn check_schema(schema: Option<&str>, example: Option<&str>) -> Vec<InvalidField> {
    let invalid = |field: &str, (pointer, detail): (String, String)| InvalidField {
        pointer: format!("/{field}{pointer}"),
        detail,
    };
    let Some(Ok(schema)) = schema.map(serde_json::from_str) else { return Vec::new() };
    match schemas::compile(&schema) {
        Err(errors) => errors.into_iter().map(|error| invalid("schema", error)).collect(),
        Ok(validator) => {
            let Some(Ok(example)) = example.map(serde_json::from_str) else { return Vec::new() };
            let violations = schemas::violations(&validator, &example);
            violations.into_iter().map(|error| invalid("example", error)).collect()
        }
    }
}
