//! The form field for an account's contacts.

use maud::Markup;

use super::field::Field;
use super::form::{Errors, Form};

const NAME: &str = "contact_emails";

/// The field, with one address per line.
pub(crate) fn field(text: &str, errors: Errors<'_>) -> Markup {
    let hint = "One address per line. We email them when a webhook is disabled.";
    Field::new(NAME, "Email addresses", hint, errors).area(text)
}

/// The field's text.
pub(crate) fn text(form: &Form) -> &str {
    form.text(NAME)
}

/// The addresses in the field's text.
pub(crate) fn addresses(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}
