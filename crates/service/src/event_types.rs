//! Use cases of the event type catalogue.

use postrider_domain::event::{EventType, EventTypeName};
use postrider_domain::json;

use crate::Service;
use crate::error::{InvalidField, Resource, ServiceError};
use crate::schemas::{self, Schema};

impl Service {
    /// Returns an event type.
    pub async fn event_type(&self, name: &EventTypeName) -> Result<EventType, ServiceError> {
        let entry = self.records().event_type(name).await?;
        entry.ok_or(ServiceError::NotFound(Resource::EventType))
    }

    /// Adds an event type to the catalogue, or replaces it. An invalid JSON Schema, or an example
    /// that could not be published, is [`ServiceError::InvalidFields`].
    pub async fn put_event_type(&self, entry: EventType) -> Result<EventType, ServiceError> {
        let invalid = validate_event_type(entry.schema.as_deref(), Some(&entry.example));
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

/// Validates a JSON Schema, and an example as a payload of its type.
#[must_use]
pub fn validate_event_type(schema: Option<&str>, example: Option<&str>) -> Vec<InvalidField> {
    let invalid = |field: &str, (pointer, detail): (String, String)| InvalidField {
        pointer: format!("/{field}{pointer}"),
        detail,
    };
    let schema = schema.map(Schema::parse).transpose();
    let example = example.map(|example| json::parse(example.as_bytes()).map(|_| example));
    match (schema, example) {
        (Err(errors), _) => errors.into_iter().map(|error| invalid("schema", error)).collect(),
        (Ok(_), None) => Vec::new(),
        (Ok(_), Some(Err(error))) => vec![invalid("example", schemas::not_json(&error))],
        (Ok(schema), Some(Ok(example))) => {
            let violations = schemas::violations(schema.as_ref(), example.as_bytes());
            violations.into_iter().map(|error| invalid("example", error)).collect()
        }
    }
}
