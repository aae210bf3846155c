//! Use cases of the event type catalogue.

use postrider_domain::event::{EventType, EventTypeName};

use crate::Service;
use crate::error::{InvalidField, Resource, ServiceError};
use crate::schemas;

impl Service {
    /// Returns an event type.
    pub async fn event_type(&self, name: &EventTypeName) -> Result<EventType, ServiceError> {
        let entry = self.records().event_type(name).await?;
        entry.ok_or(ServiceError::NotFound(Resource::EventType))
    }

    /// Adds an event type to the catalogue, or replaces it. An invalid JSON Schema, or an example
    /// that violates the schema, is [`ServiceError::InvalidFields`].
    pub async fn put_event_type(&self, entry: EventType) -> Result<EventType, ServiceError> {
        let invalid = validate_schema(entry.schema.as_deref(), Some(&entry.example));
        if !invalid.is_empty() {
            return Err(ServiceError::InvalidFields(invalid));
        }
        Ok(self.records().put_event_type(entry).await?)
    }

    /// Removes an event type from the catalogue.
    pub async fn delete_event_type(&self, name: &EventTypeName) -> Result<(), ServiceError> {
        match self.records().delete_event_type(name).await? {
            true => Ok(()),
            false => Err(ServiceError::NotFound(Resource::EventType)),
        }
    }
}

/// Validates a JSON Schema, and an example against it. Text that is not JSON is ignored.
#[must_use]
pub fn validate_schema(schema: Option<&str>, example: Option<&str>) -> Vec<InvalidField> {
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
