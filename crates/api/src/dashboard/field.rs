//! The fields of forms: a control with its label, hint and errors.

use maud::{Markup, html};

use super::form::Errors;

/// A field's name, label, hint and errors. An empty hint is not rendered.
pub(crate) struct Field<'a> {
    name: &'a str,
    label: &'a str,
    hint: &'a str,
    errors: Vec<String>,
}

impl<'a> Field<'a> {
    pub(crate) fn new(name: &'a str, label: &'a str, hint: &'a str, errors: Errors<'_>) -> Self {
        Self { name, label, hint, errors: errors.at(name) }
    }

    /// A single-line text field.
    pub(crate) fn text(&self, value: &str) -> Markup {
        self.wrap(html! {
            input id=(self.name) name=(self.name) value=(value) aria-invalid=[self.aria_invalid()]
                aria-describedby=(self.described_by()) autocomplete="off" spellcheck="false";
        })
    }

    /// A multi-line text field.
    pub(crate) fn area(&self, value: &str) -> Markup {
        let rows = value.lines().count().clamp(3, 20);
        self.wrap(html! {
            // HTML ignores a line break right after the tag (§4.11.11).
            textarea id=(self.name) name=(self.name) rows=(rows) aria-invalid=[self.aria_invalid()]
                aria-describedby=(self.described_by()) spellcheck="false" { "\n" (value) }
        })
    }

    /// A field around a control whose id is the field's name.
    pub(crate) fn wrap(&self, control: Markup) -> Markup {
        html! {
            div.field {
                label for=(self.name) { (self.label) }
                (control)
                @if !self.hint.is_empty() { p.hint id={ (self.name) "-hint" } { (self.hint) } }
                (errors(self.name, &self.errors))
            }
        }
    }

    /// The control's `aria-describedby`.
    pub(crate) fn described_by(&self) -> String {
        match self.hint {
            "" => format!("{}-error", self.name),
            _ => format!("{0}-hint {0}-error", self.name),
        }
    }

    /// The control's `aria-invalid`.
    pub(crate) fn aria_invalid(&self) -> Option<&'static str> {
        (!self.errors.is_empty()).then_some("true")
    }
}

/// The errors of a field, announced by screen readers.
pub(crate) fn errors(field: &str, errors: &[String]) -> Markup {
    html! {
        div.error id={ (field) "-error" } aria-live="polite" {
            @for error in errors { p { (sentence(error)) } }
        }
    }
}

/// Errors of the API have no subject ("must be …", "is not …"); on a page they become sentences.
fn sentence(error: &str) -> String {
    let lacks_subject =
        ["must ", "is ", "has ", "cannot ", "exceeds "].iter().any(|v| error.starts_with(v));
    let text = if lacks_subject { format!("It {error}") } else { error.to_owned() };
    if text.ends_with('.') { text } else { text + "." }
}

/// A checkbox or radio button with its label and hint.
pub(crate) fn toggle(control: Markup, text: Markup, hint: &str) -> Markup {
    html! {
        label.toggle { (control) span { (text) span.hint { (hint) } } }
    }
}

/// A drop-down list of (value, text) pairs.
pub(crate) fn select(name: &str, label: &str, choices: &[(&str, &str)], chosen: &str) -> Markup {
    html! {
        label for=(name) { (label) }
        select id=(name) name=(name) {
            @for (value, text) in choices {
                option value=(value) selected[*value == chosen] { (text) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::problem::{FieldError, Problem};

    #[test]
    fn errors_are_sentences() {
        assert_eq!(sentence("is required"), "It is required.");
        assert_eq!(sentence("Too much."), "Too much.");
    }

    #[test]
    fn text_from_outside_stays_text() {
        let hostile = "\"></textarea><script>alert(1)</script>";
        let error = FieldError { pointer: "/a".to_owned(), detail: hostile.to_owned() };
        let problem = Problem::invalid_fields(vec![error]);
        let field = Field::new("a", "b", hostile, Errors::of(Some(&problem)));
        for markup in [field.text(hostile), field.area(hostile)] {
            let text = markup.into_string();
            assert!(text.contains("aria-invalid=\"true\""), "{text}");
            assert!(!text.contains("<script"), "{text}");
        }
    }
}
